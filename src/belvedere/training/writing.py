"""What was learnt, as files: the weights, and model.onnx, compared with the network first.

Knows what a model's card says of its training; does not know what is measured or kept beside it.
"""

from datetime import UTC, datetime

import safetensors.torch

from belvedere.data.hashing import sketch
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.environment import list_versions
from belvedere.runtime.files import write_bytes
from belvedere.training.fit_uncertainty import FittedUncertainty
from belvedere.training.networks import list_layers
from belvedere.training.onnx_export import export_graph, write_model
from belvedere.training.trainer import Job, TrainingOutput
from belvedere.training.transfer import cached_onnx_path
from belvedere.types.model import ModelCard, Provenance

VERSIONS_OF = ("torch", "onnx", "onnxruntime", "numpy", "pillow", "simplejpeg")


def write_trained(job: Job, learnt: TrainingOutput, fitted: FittedUncertainty) -> ModelCard:
    """Write weights.safetensors and model.onnx into the job's folder.

    Args:
        job: What was asked for.
        learnt: What came of it; its network is on the CPU.
        fitted: What was fitted on photographs that were held out.

    Returns:
        The model's card.

    Raises:
        TrainingError: The model's answers differ from the network's.
    """
    # Again, although the best were written as they came: Ctrl-C may have come between an epoch and its writing.
    write_bytes(job.folder / "weights.safetensors", safetensors.torch.save(learnt.fit.weights))
    exported = export_graph(
        learnt.network,
        learnt.preprocess,
        learnt.samples,
        fitted.trust.temperature,
        cached_onnx_path(learnt),
        fitted.outliers,
    )
    job.log.say(f"The model file's answers differ from the network's by {exported.parity:.1e} at most.")
    provenance = Provenance(
        recipe=job.recipe.name,
        network=job.recipe.network,
        seed=job.seed,
        epochs=len(learnt.fit.history),
        best_epoch=learnt.fit.best_epoch,
        device=job.hardware.description,
        precision=job.hardware.precision_name,
        photographs=learnt.photographs,
        photographs_sha256=job.division.sha256,
        interrupted=learnt.fit.interrupted,
        seconds_train=sum(row.seconds for row in learnt.fit.history),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=list_versions(*VERSIONS_OF),
        parity=exported.parity,
        base=learnt.base,
        sketch=sketch(job.division.train.hashes + job.division.validation.hashes),
    )
    layers = list_layers(learnt.network, learnt.preprocess)
    card = ModelCard(job.dataset.class_names, learnt.preprocess, layers, provenance, fitted.trust)
    write_model(exported, card, job.folder / MODEL_NAME)
    return card
