"""A model's graph as Hugging Face's image classifiers: images of any size as `pixel_values`, calibrated `logits`.

The graph resizes the images itself, as Pillow does. Other libraries resize in other ways, some without antialiasing,
which changed a probability by up to 0.45 (benchmarks/results/other_runtimes.md).
"""

from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from belvedere.images.resize import PADDING
from belvedere.inference.model_graph import INPUT
from belvedere.inference.onnx_transforms import (
    FUSIONS,
    INVALID_FUSIONS,
    drop_unused,
    drop_unused_tensors,
    final_softmax,
    to_float16_weights,
    to_nchw_float,
)
from belvedere.types.model import Preprocess

PIXEL_VALUES = "pixel_values"
LOGITS = "logits"
CUBIC = -0.5  # parameter of Pillow's bicubic filter


def to_pixel_values(graph: onnx.ModelProto, preprocess: Preprocess) -> onnx.ModelProto:
    """Return a graph from `pixel_values` to calibrated `logits`.

    Args:
        graph: A model with a softmax that makes its probabilities; is not changed.
        preprocess: How the model's images are resized.

    Returns:
        A graph with the input `pixel_values`, float32 (N, 3, height, width), RGB from 0 to 1, of any size, and the
        output `logits`, (N, K), whose softmax is the model's probabilities.

    Raises:
        UsageError: The graph has no such softmax.
    """
    scaled = to_nchw_float(_only_logits(graph), (*INVALID_FUSIONS, *FUSIONS))  # fused, two views need twice the weights
    if any(weights.data_type == onnx.TensorProto.FLOAT16 for weights in graph.graph.initializer):
        scaled = to_float16_weights(scaled)  # exact: they were float16, and are not fused
    resize = _Resize(preprocess)
    resize.build()
    for index, node in enumerate(resize.nodes):
        scaled.graph.node.insert(index, node)
    scaled.graph.initializer.extend(resize.constants)
    sizes = [scaled.graph.input[0].type.tensor_type.shape.dim[0].dim_param or "N", 3, "height", "width"]
    scaled.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(PIXEL_VALUES, onnx.TensorProto.FLOAT, sizes))
    return scaled


def _only_logits(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose only output is what its softmax receives, as `logits`."""
    single = deepcopy(graph)
    calibrated = final_softmax(single).input[0]
    raw = f"{LOGITS}.uncalibrated"
    for node in single.graph.node:
        node.input[:] = [raw if name == LOGITS else name for name in node.input]
        node.output[:] = [raw if name == LOGITS else name for name in node.output]
    source = raw if calibrated == LOGITS else calibrated
    single.graph.node.append(onnx.helper.make_node("Identity", [source], [LOGITS]))
    [output] = [each for each in graph.graph.output if each.name == LOGITS]
    del single.graph.output[:]
    single.graph.output.append(output)
    drop_unused(single)
    drop_unused_tensors(single)
    return single


class _Resize:
    """Nodes that resize `pixel_values` as `images.resize` does, by a product with a matrix of weights for each axis.

    Pillow's algorithm: columns first, then rows, each rounded to whole levels. Pillow 13 begins with the rows of very
    tall images, which changes a level by 1 (https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c).
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def build(self) -> None:
        """Add all nodes, from `pixel_values` to the input of the model."""
        sizes = self._add("Cast", self._add("Shape", PIXEL_VALUES), to=onnx.TensorProto.FLOAT)
        height, width = (self._add("Gather", sizes, np.array(axis)) for axis in (2, 3))
        columns, has_column = self._weights(width, height, self._preprocess.width, self._preprocess.height)
        rows, has_row = self._weights(height, width, self._preprocess.height, self._preprocess.width)
        levels = self._add("Round", self._add("Mul", PIXEL_VALUES, 255.0))  # whole, so that sums are exact
        narrowed = self._round(self._add("MatMul", levels, self._add("Transpose", columns, perm=[1, 0])))
        resized = self._round(self._add("MatMul", rows, narrowed))
        is_image = self._add("Mul", has_row, self._add("Transpose", has_column, perm=[1, 0]))  # (H, W)
        padding = self._add("Mul", self._add("Sub", 1.0, is_image), float(PADDING))
        self._add("Add", resized, padding, output=INPUT)

    def _weights(self, size: str, other_size: str, new: int, other_new: int) -> tuple[str, str]:
        """Add the weights of an axis.

        Args:
            size: Tensor with the size of the images along the axis.
            other_size: Tensor with their size along the other axis.
            new: Size of the model's input along the axis.
            other_new: Size of the model's input along the other axis.

        Returns:
            Tensors: the weights (new, size); and (new, 1), 1 where the image is and 0 in the padding.
        """
        extent: str | float = size  # of the region of the image that is used, pixels
        length: str | float = float(new)  # of the region of the input that it fills
        if self._preprocess.resize == "crop":
            extent = self._add("Min", size, self._add("Mul", other_size, new / other_new))
        elif self._preprocess.resize == "letterbox":
            fitting = self._add("Round", self._add("Mul", self._add("Div", size, other_size), float(other_new)))
            length = self._add("Clip", fitting, 1.0, float(new))
        begin = self._add("Mul", self._add("Sub", size, extent), 0.5)
        offset = self._add("Round", self._add("Mul", self._add("Sub", float(new), length), 0.5))
        scale = self._add("Div", extent, length)
        position = self._add("Sub", np.arange(new, dtype=np.float32)[:, None], offset)  # (new, 1)
        center = self._add("Add", self._add("Mul", self._add("Add", position, 0.5), scale), begin)
        pixels = self._add("Add", self._add("Range", 0.0, size, 1.0), 0.5)  # (size,)
        distance = self._add("Abs", self._add("Div", self._add("Sub", pixels, center), self._add("Max", scale, 1.0)))
        weights = self._filter(distance)
        total = self._add("ReduceSum", weights, np.array([1]))
        last = self._add("Less", position, length)
        is_image = self._add("And", last, self._add("GreaterOrEqual", position, 0.0))
        mask = self._add("Cast", is_image, to=onnx.TensorProto.FLOAT)
        divisor = self._add("Where", is_image, total, 1.0)
        return self._add("Mul", self._add("Div", weights, divisor), mask), mask

    def _filter(self, distance: str) -> str:
        """Add the filter of the interpolation at distances in pixels, (new, size)."""
        if self._preprocess.interpolation == "bilinear":
            return self._add("Relu", self._add("Sub", 1.0, distance))
        inner = self._polynomial(distance, (CUBIC + 2, -CUBIC - 3, 0.0, 1.0))
        near = self._add("Min", distance, 2.0)  # where the outer polynomial is 0
        outer = self._polynomial(near, (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC))
        return self._add("Where", self._add("Less", distance, 1.0), inner, outer)

    def _polynomial(self, value: str, coefficients: tuple[float, ...]) -> str:
        """Add a polynomial, by Horner's rule; the coefficient of the highest power comes first."""
        result = self._constant(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self._add("Add", self._add("Mul", result, value), coefficient)
        return result

    def _round(self, levels: str) -> str:
        """Round to whole levels from 0 to 255, half up."""
        rounded = self._add("Floor", self._add("Add", levels, 0.5))
        return self._add("Clip", rounded, 0.0, 255.0)

    def _constant(self, value: NDArray[np.generic] | float) -> str:
        name = f"resize.constant{len(self.constants)}"
        array = np.array(value, np.float32) if isinstance(value, float) else value
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def _add(self, kind: str, *inputs: str | float | NDArray[np.generic], output: str = "", **attributes: Any) -> str:
        """Add a node with tensors and constants as inputs, and return the name of its output."""
        output = output or f"resize.{len(self.nodes)}"
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        self.nodes.append(onnx.helper.make_node(kind, names, [output], **attributes))
        return output
