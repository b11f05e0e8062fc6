"""The tensors of a response: which ones a model has, and their data as JSON or binary."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.serving.kserve.inputs import BINARY_SIZE, invalid
from belvedere.serving.kserve.schema import InferRequest, TensorMetadata
from belvedere.serving.model_watch import LoadedModel
from belvedere.types.prediction import Prediction

BINARY, ALL_BINARY = "binary_data", "binary_data_output"  # parameters of an output, and of the request
DTYPES = {"FP32": "<f4", "BOOL": "?"}

Values = NDArray[np.float32] | NDArray[np.bool_] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a model."""

    metadata: TensorMetadata
    value: Callable[[Prediction], Any] | None  # of one image: a scalar, or a row
    constant: Sequence[str] = ()  # without images

    def compute(self, predictions: Sequence[Prediction]) -> Values:
        """Return the elements for N images, in the order of the tensor."""
        values = self.constant if self.value is None else [self.value(each) for each in predictions]
        if self.metadata.datatype == "BYTES":
            return values
        return np.array(values, DTYPES[self.metadata.datatype]).ravel()


def outputs_of(loaded: LoadedModel) -> dict[str, Output]:
    """Return the outputs of a model by name. (-1, K) have a column per class, in the order of `class_names`."""
    names, blank = loaded.model.class_names, loaded.blank
    per_image = [-1]
    per_class = [-1, len(names)]
    found = [
        _output("predicted_label", "BYTES", per_image),
        _output("answer", "BYTES", per_image),
        _output("confidence", "FP32", per_image),
        _output("probabilities", "FP32", per_class, attrgetter("probability_values")),
        Output(TensorMetadata(name="class_names", datatype="BYTES", shape=[len(names)]), None, names),
    ]
    if blank.prediction_set:
        found.append(_output("prediction_set", "BOOL", per_class, lambda each: _mask(names, each.prediction_set)))
    if blank.none_of_these is not None:
        found.append(_output("none_of_these", "BOOL", per_image))
        found.append(_output("none_of_these_score", "FP32", per_image))
    if blank.tag_probability_values:
        tags = _output("tags", "BOOL", per_class, lambda each: _mask(names, [tag.name for tag in each.tags]))
        found.append(tags)
        found.append(_output("tag_probabilities", "FP32", per_class, attrgetter("tag_probability_values")))
    return {each.metadata.name: each for each in found}


def _output(name: str, datatype: str, shape: list[int], value: Callable[[Prediction], Any] | None = None) -> Output:
    """Return an output with a value per image, by default the field of the prediction with its name."""
    return Output(TensorMetadata(name=name, datatype=datatype, shape=shape), value or attrgetter(name))


def _mask(names: Sequence[str], chosen: Sequence[str]) -> list[bool]:
    return [name in chosen for name in names]


def choose_outputs(request: InferRequest, known: dict[str, Output]) -> list[tuple[Output, bool]]:
    """Return the outputs of a response, and whether each is binary.

    Raises:
        HTTPError: An output is unknown or named twice, or a parameter is not supported.
    """
    all_binary = _is_binary(request.parameters.get(ALL_BINARY, False), ALL_BINARY)
    chosen: dict[str, bool] = {}
    for each in request.outputs or ():
        if each.name not in known:
            raise invalid(f"There is no output {each.name[:100]!r}. Outputs of this model: {', '.join(known)}.")
        if each.name in chosen:
            raise invalid(f"Output {each.name} is requested twice. Request it once.")
        if unknown := each.parameters.keys() - {BINARY}:
            raise invalid(f"Output {each.name} has parameters that are not supported: {str(sorted(unknown))[:200]}.")
        chosen[each.name] = _is_binary(each.parameters.get(BINARY, all_binary), BINARY)
    chosen = chosen or dict.fromkeys(known, all_binary)
    return [(known[name], is_binary) for name, is_binary in chosen.items()]


def _is_binary(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"Parameter {name} is not true or false. Received: {str(value)[:100]!r}.")
    return value


def write_tensors(
    chosen: Sequence[tuple[Output, bool]], predictions: Sequence[Prediction]
) -> tuple[list[dict[str, Any]], bytes]:
    """Return the tensors of a response as JSON, and the binary data of those that are binary."""
    tensors, parts = [], []
    for output, is_binary in chosen:
        metadata, values = output.metadata, output.compute(predictions)
        shape = [len(predictions) if size == -1 else size for size in metadata.shape]
        tensor: dict[str, Any] = {"name": metadata.name, "datatype": metadata.datatype, "shape": shape}
        if is_binary:
            parts.append(_to_bytes(values))
            tensor["parameters"] = {BINARY_SIZE: len(parts[-1])}
        else:
            tensor["data"] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        tensors.append(tensor)
    return tensors, b"".join(parts)


def _to_bytes(values: Values) -> bytes:
    if isinstance(values, np.ndarray):
        return values.tobytes()
    encoded = [text.encode() for text in values]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)
