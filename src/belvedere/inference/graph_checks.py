"""What a model file from anybody may hold, checked before ONNX Runtime opens it; and what its graph may return.

Knows the wire format of protocol buffers and the few messages of ONNX (onnx.proto) that matter here; does not know
how a graph is run. A model is one file: one graph of ONNX's standard operators, with all tensors inside. Refused are
external data, which ONNX Runtime would read from any file below the working folder; operators of other domains, some of
which read files (`EPContext`) or belong to custom libraries; loops and branches, which may never end; functions; and
sparse tensors. Nothing that Belvedere exports needs any of these.
"""

from collections.abc import Iterator, Mapping

import numpy as np

MAX_FIELDS = 500_000  # of all messages: the largest networks of timm have a tenth of it, and each costs a microsecond
STANDARD_DOMAINS = (b"", b"ai.onnx")
MAX_VALUE = 1e30  # of any output: sums and ratios of such values are finite
TOLERANCE = 1e-3  # by which a probability may be over 1
RANKS: Mapping[str, int] = {"logits": 2, "probabilities": 2, "embedding": 2, "evidence": 4, "outlier_score": 1}
PER_CLASS = ("logits", "probabilities", "evidence")  # outputs whose second axis is the classes

# Wire types
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5

# Fields that hold what is refused, by message, and what to call it
MODEL_REFUSED = {20: "training steps", 25: "functions of its own"}
GRAPH_REFUSED = {15: "sparse tensors"}
ATTRIBUTE_REFUSED = {
    6: "loops or branches",
    11: "loops or branches",
    14: "types as attributes",
    15: "types as attributes",
    22: "sparse tensors",
    23: "sparse tensors",
}
TENSOR_REFUSED = {13: "data in other files"}
GRAPH, NODE, INITIALIZER, ATTRIBUTE, DOMAIN, TENSOR, TENSORS, DATA_LOCATION = 7, 1, 5, 5, 7, 5, 10, 14

Shape = tuple[int | str | None, ...]
Field = tuple[int, int, memoryview | int]  # number, wire type, and the bytes, or the number of a varint


class RefusedGraph(ValueError):
    """A file holds what no model may hold, or is no ONNX file; the message is the reason."""


def check_graph(content: bytes) -> None:
    """Check the file of a model, without opening it.

    Args:
        content: All of the file's bytes.

    Raises:
        RefusedGraph: It holds data in other files, other operators than ONNX's own, loops, or the like, or it can't be
            parsed.
    """
    _Walk().check_model(memoryview(content))


class _Walk:
    """A walk through the messages of one file: four levels deep, and no longer than `MAX_FIELDS`."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def check_model(self, message: memoryview) -> None:
        for number, value in self._embedded(message, MODEL_REFUSED):
            if number == GRAPH:
                self._check_graph(value)

    def _check_graph(self, message: memoryview) -> None:
        for number, value in self._embedded(message, GRAPH_REFUSED):
            if number == NODE:
                self._check_node(value)
            elif number == INITIALIZER:
                self._check_tensor(value)

    def _check_node(self, message: memoryview) -> None:
        for number, value in self._embedded(message, {}):
            if number == ATTRIBUTE:
                self._check_attribute(value)
            elif number == DOMAIN and value not in STANDARD_DOMAINS:
                domain = bytes(value[:100]).decode(errors="replace")
                raise RefusedGraph(f"it has operators of the domain {domain!r}, and only ONNX's own are taken")

    def _check_attribute(self, message: memoryview) -> None:
        for number, value in self._embedded(message, ATTRIBUTE_REFUSED):
            if number in (TENSOR, TENSORS):
                self._check_tensor(value)

    def _check_tensor(self, message: memoryview) -> None:
        for number, kind, value in self._fields(message):
            if number in TENSOR_REFUSED or (number == DATA_LOCATION and (kind != VARINT or value)):
                raise RefusedGraph(f"it has {TENSOR_REFUSED[13]} (external data), and a model is one file")

    def _embedded(self, message: memoryview, refused: Mapping[int, str]) -> Iterator[tuple[int, memoryview]]:
        """Yield the fields that hold bytes or a message; raise for those that are refused."""
        for number, _, value in self._fields(message):
            if number in refused:
                raise RefusedGraph(f"it has {refused[number]}, which no model of Belvedere's has")
            if isinstance(value, memoryview):
                yield number, value

    def _fields(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields of a message, none of which is longer than the message."""
        at, end = 0, len(message)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise RefusedGraph(f"it has more than {MAX_FIELDS:,} parts")
            key, at = _read_varint(message, at)
            kind, length = key & 7, 0
            if not 8 <= key < 1 << 32:
                raise RefusedGraph("it is no ONNX file")
            if kind == VARINT:
                value, at = _read_varint(message, at)
                yield key >> 3, kind, value
                continue
            if kind == BYTES:
                length, at = _read_varint(message, at)
            elif kind in (FIXED_32, FIXED_64):
                length = 4 if kind == FIXED_32 else 8
            else:  # groups, which ONNX does not have
                raise RefusedGraph("it is no ONNX file")
            if at + length > end:
                raise RefusedGraph("it is no ONNX file, or was cut off")
            yield key >> 3, kind, message[at : at + length]
            at += length


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a whole number of up to ten bytes; return it and where the next field begins."""
    if at < len(message) and (first := message[at]) < 128:
        return first, at + 1  # nearly all of them
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[at : at + 10], strict=False):
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise RefusedGraph("it is no ONNX file, or was cut off")


def check_outputs(
    outputs: Mapping[str, object], shapes: Mapping[str, Shape], num_images: int, num_classes: int | None
) -> None:
    """Check what a graph returned for images: kinds, shapes, and that there is nothing but numbers.

    Args:
        outputs: By name, of those in `RANKS`.
        shapes: Of each, as the graph promises; sizes that are no whole number are open.
        num_images: N.
        num_classes: K; None where it is not known.

    Raises:
        ValueError: One is of another kind, batch, rank or number of classes, is not finite, or is no probability; the
            message says which.
    """
    for name, values in outputs.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            raise ValueError(f"its output {name} is not of float32")
        promised = [num_images, *shapes[name][1:]]
        if name in PER_CLASS and num_classes is not None:
            promised[1:2] = [num_classes]
        fits = [
            size == wanted or not isinstance(wanted, int) for size, wanted in zip(values.shape, promised, strict=False)
        ]
        if not (values.ndim == len(promised) == RANKS[name] and all(fits) and values.size):
            raise ValueError(f"its output {name} has the shape {values.shape} where {tuple(promised)} was promised")
        largest = np.abs(values).reshape(num_images, -1).max(1)  # (N,), NaN where one is
        if not (largest <= MAX_VALUE).all():
            failed = num_images - int((largest <= MAX_VALUE).sum())
            raise ValueError(f"its output {name} is not finite, or absurd, for {failed} of {num_images} images")
        if name == "probabilities" and not (values.min() >= 0 and values.max() <= 1 + TOLERANCE):
            raise ValueError(f"its output {name} is not between 0 and 1")
