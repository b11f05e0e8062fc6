"""Safety checks: the content of a model file before ONNX Runtime opens it, and the outputs of its graph.

A model is one file with one graph of standard ONNX operators. Refused are external data, which ONNX Runtime would read
from any file below the working folder; operators of other domains, some of which read files (`EPContext`) or belong to
custom libraries; loops and branches, which may be endless; functions; and sparse tensors. The checks parse the wire
format of protocol buffers.
"""

from collections.abc import Iterator, Mapping

import numpy as np

MAX_FIELDS = 500_000  # of all messages: ten times those of the largest networks of timm; a microsecond each
STANDARD_DOMAINS = (b"", b"ai.onnx")
MAX_VALUE = 1e30  # of an output: sums and ratios of such values are finite
TOLERANCE = 1e-3  # of a probability over 1
RANKS: Mapping[str, int] = {"logits": 2, "probabilities": 2, "embedding": 2, "class_activation_maps": 4, "ood_score": 1}
PER_CLASS = ("logits", "probabilities", "class_activation_maps")  # with the classes on axis 1

# Wire types
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5

# Field numbers of checked messages and of refused content, by the message that holds them
CHECKED: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
REFUSED: Mapping[str, Mapping[int, str]] = {
    "model": {20: "training steps (ModelProto.training_info)", 25: "functions (ModelProto.functions)"},
    "graph": {15: "sparse tensors (GraphProto.sparse_initializer)"},
    "node": {},
    "attribute": {
        6: "loops or branches (AttributeProto.g)",
        11: "loops or branches (AttributeProto.graphs)",
        14: "types as attributes (AttributeProto.tp)",
        15: "types as attributes (AttributeProto.type_protos)",
        22: "sparse tensors (AttributeProto.sparse_tensor)",
        23: "sparse tensors (AttributeProto.sparse_tensors)",
    },
    "tensor": {},
}
NODE_DOMAIN, EXTERNAL_DATA, DATA_LOCATION = 7, 13, 14

Shape = tuple[int | str | None, ...]
Field = tuple[int, int, memoryview | int]  # number, wire type, value


class GraphRejectedError(ValueError):
    """A file is unsafe, or not an ONNX file."""


def check_graph(content: bytes) -> None:
    """Check the bytes of a model file.

    Raises:
        GraphRejectedError: The file holds external data, non-standard operators, loops or the like, or is damaged.
    """
    _Parser().check("model", memoryview(content))


class _Parser:
    """Parses the messages of one file, four levels deep and up to `MAX_FIELDS` fields."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def check(self, kind: str, message: memoryview) -> None:
        """Check a message of a kind in `CHECKED`, and the messages in it."""
        for number, wire_type, value in self._fields(message):
            if refused := REFUSED[kind].get(number):
                raise GraphRejectedError(f"it has {refused}, which models of Belvedere never have")
            is_external = number == DATA_LOCATION and (wire_type != VARINT or value)
            if kind == "tensor" and (number == EXTERNAL_DATA or is_external):
                raise GraphRejectedError(
                    "it has data in other files (TensorProto.external_data); a model must be one file"
                )
            if not isinstance(value, memoryview):
                continue
            if kind == "node" and number == NODE_DOMAIN and value not in STANDARD_DOMAINS:
                domain = bytes(value[:100]).decode(errors="replace")
                raise GraphRejectedError(f"it has operators of the domain {domain!r}; only those of ONNX are allowed")
            if inner := CHECKED[kind].get(number):
                self.check(inner, value)

    def _fields(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields of a message."""
        at, end = 0, len(message)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise GraphRejectedError(f"it has more than {MAX_FIELDS:,} fields")
            key, at = _read_varint(message, at)
            kind, length = key & 7, 0
            if not 8 <= key < 1 << 32:
                raise GraphRejectedError("it is not an ONNX file")
            if kind == VARINT:
                value, at = _read_varint(message, at)
                yield key >> 3, kind, value
                continue
            if kind == BYTES:
                length, at = _read_varint(message, at)
            elif kind in (FIXED_32, FIXED_64):
                length = 4 if kind == FIXED_32 else 8
            else:  # groups, which ONNX does not use
                raise GraphRejectedError("it is not an ONNX file")
            if at + length > end:
                raise GraphRejectedError("it is not an ONNX file, or truncated")
            yield key >> 3, kind, message[at : at + length]
            at += length


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of up to ten bytes, and the position after it."""
    if at < len(message) and (first := message[at]) < 128:
        return first, at + 1  # the common case
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[at : at + 10], strict=False):
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise GraphRejectedError("it is not an ONNX file, or truncated")


def check_outputs(
    outputs: Mapping[str, object], shapes: Mapping[str, Shape], num_images: int, num_classes: int | None
) -> None:
    """Check the type, shape and values of a graph's outputs.

    Args:
        outputs: Outputs by name, of those in `RANKS`.
        shapes: Shapes by name, as the graph declares them; sizes that are not integers are open.
        num_images: N.
        num_classes: K; None if unknown.

    Raises:
        ValueError: An output has another type or shape, is not finite, or is not a probability.
    """
    for name, values in outputs.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            raise ValueError(f"its output {name} is not of float32")
        expected = [num_images, *shapes[name][1:]]
        if name in PER_CLASS and num_classes is not None:
            expected[1:2] = [num_classes]
        fits = [
            size == wanted or not isinstance(wanted, int) for size, wanted in zip(values.shape, expected, strict=False)
        ]
        if not (values.ndim == len(expected) == RANKS[name] and all(fits) and values.size):
            raise ValueError(f"its output {name} has the shape {values.shape} where {tuple(expected)} was declared")
        largest = np.abs(values).reshape(num_images, -1).max(1)  # (N,), NaN where one is
        if not (largest <= MAX_VALUE).all():
            failed = num_images - int((largest <= MAX_VALUE).sum())
            raise ValueError(f"its output {name} is not finite, or too large, for {failed} of {num_images} images")
        if name == "probabilities" and not (values.min() >= 0 and values.max() <= 1 + TOLERANCE):
            raise ValueError(f"its output {name} is not between 0 and 1")
