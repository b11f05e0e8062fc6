"""Fits anew how far a model can be trusted, with today's code, without training it again.

python tools/refit_model.py MODEL.onnx intel --recipe best --validation-share 0.1 --out scenes.onnx

Takes the weights out of a model file of a compact network, divides the photographs as its training did (which is
checked), fits temperature, prediction sets, outlier score and tags on the validation photographs, and writes the model
with its weights in 16 bits. Nothing but the training photographs is looked at.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.data.splits import divide
from belvedere.inference.model import load
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.onnx_transforms import to_float16_weights
from belvedere.inference.uncertainty.ood import OODScorer, fit_outlier_score, fit_quantiles, score_outliers
from belvedere.runtime.files import write_bytes
from belvedere.runtime.progress import LineProgress
from belvedere.training.data_loader import DataLoader
from belvedere.training.device import choose_hardware
from belvedere.training.distributed import join_ranks
from belvedere.training.fit_uncertainty import HeldOutOutputs, fit_uncertainty
from belvedere.training.log import LoggedProgress
from belvedere.training.networks import architecture_for, find_network
from belvedere.training.networks.registry import Network
from belvedere.training.onnx_export import export_graph
from belvedere.training.recipe_config import change_recipe
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.trainer import Job, evenly_spaced, hold_out, read_part

COMPARED_ON = 16  # pictures


def take_weights(file: Path, network: Network) -> Network:
    """Gives a network the weights of a model file; what the exporter had merged, since it was equal, is taken twice."""
    held = {weights.name: onnx.numpy_helper.to_array(weights) for weights in onnx.load(file).graph.initializer}
    found = {}
    for name, values in network.state_dict().items():
        names = [f"network.{name}", f"network.{name}.half", f"network.{name.replace('short.norm', 'norm2')}"]
        if name.endswith("num_batches_tracked"):
            found[name] = values
            continue
        found[name] = torch.from_numpy(np.array(held[next(each for each in names if each in held)], np.float32))
    network.load_state_dict(found)
    return network.eval()


def look(
    photos: Path, recipe: Recipe, seed: int, network: Network, sha256: str
) -> tuple[HeldOutOutputs, NDArray[np.uint8]]:
    """What the network says of its validation photographs and some it learnt from; and pictures to compare on."""
    dataset, hardware = load_dataset(photos), choose_hardware("cpu")
    with tempfile.TemporaryDirectory() as folder:
        log = LoggedProgress(Path(folder) / "log", LineProgress())
        division = divide(dataset, recipe.split_fractions, seed, log)
        if division.sha256 != sha256:
            raise SystemExit("These are not the photographs that the model was trained on.")
        job = Job(Path(folder), recipe, dataset, division, seed, hardware, join_ranks("cpu"), log, None)
        size = architecture_for(recipe).preprocess
        (train, _), (validation, held) = read_part(job, division.train, size), read_part(job, division.validation, size)
        seen = hold_out(job, network, DataLoader(train, hardware), DataLoader(validation, hardware), held)
        return seen, validation.images[evenly_spaced(len(validation.labels), COMPARED_ON)]


def halve(score: OODScorer) -> OODScorer:
    """The score as it is when its matrices are stored in 16 bits."""
    return replace(
        score,
        quadratic=score.quadratic.astype(np.float16).astype(np.float32),
        linear=score.linear.astype(np.float16).astype(np.float32),
    )


def main() -> None:
    """Looks, fits, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--validation-share", type=float, default=0.1)
    parser.add_argument(
        "--neighbours", type=int, default=0, help="embeddings that are kept; none makes the smallest file"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    card = load(options.model).card
    changes = {"validation_fraction": options.validation_fraction, "network": card.provenance.network}
    recipe = change_recipe(RECIPES[options.recipe], changes, "--validation-share")
    network = take_weights(options.model, find_network(recipe.network).create(len(card.class_names)))
    network.flip_tta = recipe.flip_tta
    seen, pictures = look(options.photos, recipe, card.provenance.seed, network, card.provenance.photographs_sha256)
    trust = fit_uncertainty(seen, LineProgress()).trust
    score = halve(fit_outlier_score(seen.learnt, seen.learnt_labels, seen.embeddings, seen.logits, options.neighbours))
    quantiles = fit_quantiles(score_outliers(score, seen.embeddings, seen.logits))
    trust = replace(trust, outlier_quantiles=tuple(round(value, 3) for value in quantiles))
    exported = export_graph(network, card.preprocess, pictures, trust.temperature, outliers=score)
    graph = to_float16_weights(exported.graph)
    onnx.helper.set_model_props(graph, card_to_metadata(replace(card, trust=trust)))
    onnx.checker.check_model(graph, full_check=True)
    write_bytes(options.out, graph.SerializeToString())
    print(f"written: {options.out}, {graph.ByteSize():,} bytes")


if __name__ == "__main__":
    main()
