"""Refit the uncertainty of a model with today's code, without training.

python tools/refit_model.py MODEL.onnx DATA --recipe best --validation-fraction 0.1 --out scenes.onnx

Loads the weights of a compact network from a model file, splits the images as its training did (which is checked),
fits temperature, prediction sets, OOD score and tags on the validation images, and writes the model with float16
weights. Only training images are used.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.data.sampling import evenly_spaced
from belvedere.data.splits import split_dataset
from belvedere.inference.model import load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.onnx_transforms import to_float16_weights
from belvedere.inference.uncertainty.ood import OODScorer, fit_ood_scorer, fit_quantiles, ood_scores
from belvedere.runtime.files import write_bytes
from belvedere.runtime.progress import LineProgress
from belvedere.training.device import Runtime, choose_device
from belvedere.training.fit_uncertainty import fit_on_held_out
from belvedere.training.held_out import HeldOutOutputs, predict_held_out
from belvedere.training.networks import find_network
from belvedere.training.networks.registry import Network
from belvedere.training.onnx_export import export_graph
from belvedere.training.recipe_config import change_recipe
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.results import NUM_SAMPLE_IMAGES
from belvedere.training.training_data import load_training_data

HEAD_NAMES = {"classify.weight": "head.weight", "classify.bias": "head.bias"}  # of the network, and of the graph


def load_weights(file: Path, network: Network) -> Network:
    """Load the weights of a model file into a network.

    Tensors that the exporter merged are used twice. A batch norm that it folded into a convolution becomes an identity
    with the bias of the convolution.
    """
    stored = {weights.name: onnx.numpy_helper.to_array(weights) for weights in onnx.load(file).graph.initializer}
    state = network.state_dict()
    for name, values in state.items():
        layer, _, key = name.rpartition(".")
        convolution = "features.stem" if layer == "features.norm" else layer.replace("norm", "conv")
        folded = {"weight": 1.0, "running_mean": 0.0, "running_var": 1 - torch.nn.BatchNorm2d(1).eps}
        names = [f"network.{name}", HEAD_NAMES.get(name, ""), f"network.{name.replace('short.norm', 'norm2')}"]
        names += [f"{each}.half" for each in names] + [f"network.{convolution}.weight_bias"] * (key == "bias")
        found = next((stored[each] for each in names if each in stored), None)
        if found is not None:
            state[name] = torch.from_numpy(np.array(found, np.float32))
        elif "norm" in layer and key in folded:
            state[name] = torch.full_like(values, folded[key])
        elif key != "num_batches_tracked":
            raise SystemExit(f"{file} has no weights named {name}.")
    network.load_state_dict(state)
    return network.eval()


def run_on_held_out(
    data: Path, recipe: Recipe, seed: int, network: Network, sha256: str
) -> tuple[HeldOutOutputs, NDArray[np.uint8]]:
    """Return the outputs for held-out and training images, and images to compare the model file on."""
    dataset, runtime = load_dataset(data), Runtime(choose_device("cpu"), progress=LineProgress())
    split = split_dataset(dataset, recipe.split_fractions, seed, runtime.progress)
    if split.sha256 != sha256:
        raise SystemExit("These are not the images that the model was trained on.")
    whole_images = replace(recipe, image_size_schedule=(), teacher="", unlabeled="")
    training_data = load_training_data(split, whole_images, dataset.class_names, runtime)
    rows = evenly_spaced(len(training_data.validation.labels), NUM_SAMPLE_IMAGES)
    return predict_held_out(network, training_data, runtime), training_data.validation.images[rows]


def round_to_float16(score: OODScorer) -> OODScorer:
    """Return the score with matrices rounded to float16."""
    return replace(
        score,
        quadratic=score.quadratic.astype(np.float16).astype(np.float32),
        linear=score.linear.astype(np.float16).astype(np.float32),
    )


def main() -> None:
    """Run the network, fit its uncertainty, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--validation-fraction", type=float, default=0.1)
    parser.add_argument(
        "--neighbors", type=int, default=0, help="reference embeddings of the OOD score; 0 makes the smallest file"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    card = load_model(options.model).card
    changes = {"validation_fraction": options.validation_fraction, "network": card.provenance.network}
    recipe = change_recipe(RECIPES[options.recipe], changes, "--validation-fraction")
    network = load_weights(options.model, find_network(recipe.network).create(len(card.class_names)))
    network.flip_tta = recipe.flip_tta
    made = card.provenance
    held_out, images = run_on_held_out(options.data, recipe, made.seed, network, made.data_sha256)
    uncertainty = fit_on_held_out(held_out, LineProgress()).uncertainty
    embeddings, logits = held_out.embeddings, held_out.logits
    score = round_to_float16(
        fit_ood_scorer(held_out.train_embeddings, held_out.train_labels, embeddings, logits, options.neighbors)
    )
    quantiles = fit_quantiles(ood_scores(score, embeddings, logits))
    uncertainty = replace(uncertainty, ood_score_quantiles=tuple(round(value, 3) for value in quantiles))
    exported = export_graph(network, card.preprocess, images, uncertainty.temperature, ood_scorer=score)
    graph = to_float16_weights(exported.graph)
    onnx.helper.set_model_props(graph, card_to_metadata(replace(card, uncertainty=uncertainty)))
    onnx.checker.check_model(graph, full_check=True)
    write_bytes(options.out, graph.SerializeToString())
    print(f"written: {options.out}, {graph.ByteSize():,} bytes")


if __name__ == "__main__":
    main()
