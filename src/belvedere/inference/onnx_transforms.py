"""Transforms of a model's graph: int8 quantization, float16 weights, NCHW input, no flip TTA, another temperature."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from belvedere.errors import MissingDependencyError, UsageError
from belvedere.inference.model_graph import INPUT

try:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
except ModuleNotFoundError as error:
    raise MissingDependencyError("Exporting", "onnx", "export") from error

MIN_FLOAT16_SIZE = 1000  # elements: smaller weights stay in float32
BATCH_SIZE = 16
NCHW_IR_VERSION = 8  # ONNX Runtime 1.17 reads up to 9
HEAD = "embedding"  # nodes after it stay in float32: they are small, and predictions depend on them

FUSIONS = ("ConvBNFusion", "ConvMulFusion", "ConvAddFusion")  # create weights, which hides that two views are equal
INVALID_FUSIONS = ("MatMul_BatchNormalization_Fusion",)  # creates a Gemm of three axes, which ONNX does not allow

Images = NDArray[np.uint8]  # (N, H, W, 3)


def load_graph(content: bytes) -> onnx.ModelProto:
    """Open the bytes of a model file; external data are not read."""
    return onnx.load_from_string(content)


def write_card(graph: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a model file with other metadata.

    Raises:
        onnx.checker.ValidationError: The graph violates the standard.
    """
    onnx.helper.set_model_props(graph, dict(metadata))
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def to_int8(graph: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    """Return a quantized graph in QDQ format: per-channel weights, static activation ranges.

    The first convolution and the head stay in float32. Weights use 7 of 8 bits, since processors without VNNI sum
    products in 16 bits, which overflow
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Args:
        graph: A model; is not changed.
        images: (N, H, W, 3), to calibrate the ranges of the activations.

    Raises:
        UsageError: The graph is quantized already.
    """
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        raise UsageError("The model is int8 already. Export the model that it was made from.")

    class Calibration(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self._batches = batches(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        file, folded = Path(folder) / "int8.onnx", _fold(graph)
        quantize_static(
            folded,
            file,
            Calibration(),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*_downstream_nodes(folded, HEAD), *_first_convolutions(folded)],
        )
        return onnx.load(file)


def _first_convolutions(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the first convolution of each view: quantized, they cause a third of the error."""
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if node.input[1] == convolutions[0].input[1]]


def _downstream_nodes(graph: onnx.ModelProto, tensor: str) -> list[str]:
    """Return the names of all nodes that depend on a tensor; nodes without a name get one."""
    reached, names = {tensor}, []
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{number}"
        if reached.intersection(node.input):
            reached.update(node.output)
            names.append(node.name)
    return names


def drop_unused(graph: onnx.ModelProto) -> None:
    """Remove nodes whose outputs are not used."""
    used = {output.name for output in graph.graph.output}
    for node in reversed(list(graph.graph.node)):  # nodes are in topological order
        if used.isdisjoint(node.output):
            graph.graph.node.remove(node)
        else:
            used.update(node.input)


def to_float16_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that stores its large weights in float16 and computes in float32: half the file size."""
    halved = deepcopy(graph)
    casts = []
    for weights in halved.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size >= MIN_FLOAT16_SIZE:
            name = weights.name
            weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for index, cast in enumerate(casts):
        halved.graph.node.insert(index, cast)
    return halved


def to_nchw_float(graph: onnx.ModelProto, disabled: Sequence[str] = INVALID_FUSIONS) -> onnx.ModelProto:
    """Return a graph with float32 input (N, 3, H, W), RGB from 0 to 255, that opens in older and other runtimes."""
    nchw = deepcopy(graph)
    [image_input] = nchw.graph.input
    count, height, width, _ = image_input.type.tensor_type.shape.dim
    sizes = [count.dim_param or count.dim_value, 3, height.dim_value, width.dim_value]
    for node in nchw.graph.node:
        node.input[:] = [f"{INPUT}.last" if name == INPUT else name for name in node.input]
    transpose = onnx.helper.make_node("Transpose", [INPUT], [f"{INPUT}.last"], perm=[0, 2, 3, 1])
    nchw.graph.node.insert(0, transpose)
    image_input.CopyFrom(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, sizes))
    del nchw.graph.value_info[:]  # of uint8 tensors
    nchw = _fold(nchw, disabled)
    _replace_flips_by_gather(nchw)
    _split_unsqueeze(nchw)
    _multiply_before_erf(nchw)
    _duplicate_expand(nchw)
    drop_unused_tensors(nchw)
    nchw.ir_version = min(nchw.ir_version, NCHW_IR_VERSION)
    return nchw


def _replace_flips_by_gather(model: onnx.ModelProto) -> None:
    """Replace each `Slice` with a negative step by a `Gather`: OpenCV's dnn up to 4.11 infers its shape wrongly."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {each.name: each.type.tensor_type.shape.dim for each in (*graph.input, *graph.value_info)}
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type != "Slice" or not _is_flip(node.input, constants) or node.input[0] not in shapes:
            continue
        start, end, axis, step = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:])
        size = shapes[node.input[0]][int(axis[0])].dim_value
        if len(axis) > 1 or not size:
            continue
        indices = np.arange(size)[int(start[0]) : int(end[0]) : int(step[0])]
        name = f"{node.output[0]}.indices"
        model.graph.initializer.append(onnx.numpy_helper.from_array(indices, name))
        node.CopyFrom(onnx.helper.make_node("Gather", [node.input[0], name], node.output, axis=int(axis[0])))


def _split_unsqueeze(model: onnx.ModelProto) -> None:
    """Replace each `Unsqueeze` of several axes by one per axis: OpenCV's dnn supports one."""
    constants = _constants(model)
    for index, node in reversed(list(enumerate(model.graph.node))):
        axes = constants.get(node.input[1]) if node.op_type == "Unsqueeze" else None
        values = [] if axes is None else sorted(onnx.numpy_helper.to_array(axes).tolist())
        if len(values) < 2 or values[0] < 0:
            continue
        tensor = node.input[0]
        for number, axis in enumerate(values):
            name = f"{node.output[0]}.axis{number}"
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([axis]), name))
            output = node.output[0] if number == len(values) - 1 else f"{node.output[0]}.{number}"
            single = onnx.helper.make_node("Unsqueeze", [tensor, name], [output])
            model.graph.node.insert(index + 1 + number, single)
            tensor = output
        del model.graph.node[index]


def _multiply_before_erf(model: onnx.ModelProto) -> None:
    """Multiply by the reciprocal in each GELU: OpenCV's dnn crashes on the division."""
    constants = _constants(model)
    erf_inputs = {node.input[0] for node in model.graph.node if node.op_type == "Erf"}
    for node in model.graph.node:
        if node.op_type == "Div" and node.output[0] in erf_inputs and node.input[1] in constants:
            factor = 1 / onnx.numpy_helper.to_array(constants[node.input[1]])
            node.op_type, node.input[1] = "Mul", f"{node.output[0]}.factor"
            model.graph.initializer.append(onnx.numpy_helper.from_array(factor, node.input[1]))


def _duplicate_expand(model: onnx.ModelProto) -> None:
    """Give each consumer of an expanded constant its own `Expand`: OpenCV's dnn 4.11 adds it once per consumer."""
    constants = _constants(model)
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "Expand" or node.input[0] not in constants:
            continue
        consumers = [other for other in model.graph.node if node.output[0] in other.input]
        for number, consumer in enumerate(consumers[1:]):
            name = f"{node.output[0]}.{number}"
            consumer.input[:] = [name if each == node.output[0] else each for each in consumer.input]
            model.graph.node.insert(index + 1, onnx.helper.make_node("Expand", node.input, [name]))


def drop_unused_tensors(model: onnx.ModelProto) -> None:
    """Remove constant tensors that are not used."""
    used = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in used:
            del model.graph.initializer[index]


def remove_tta(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph without flip test-time augmentation: both views become equal, and are merged.

    Raises:
        UsageError: The graph has no flips.
    """
    single = deepcopy(graph)
    constants = _constants(single)
    flips = [node for node in single.graph.node if node.op_type == "Slice" and _is_flip(node.input, constants)]
    if not flips:
        raise UsageError("The model has no test-time augmentation to remove. Leave out `tta`.")
    for node in flips:
        node.op_type = "Identity"
        del node.input[1:]
    return _fold(single, FUSIONS)


def set_temperature(content: bytes, temperature: float) -> bytes:
    """Return a model file whose logits are divided by another temperature before the softmax.

    Raises:
        UsageError: The graph has no softmax that makes its probabilities.
    """
    model = load_graph(content)
    makers = {output: node for node in model.graph.node for output in node.output}
    softmax = final_softmax(model)
    divide, is_output = makers[softmax.input[0]], softmax.input[0] in {each.name for each in model.graph.output}
    if is_output or divide.op_type not in ("Div", "Mul") or divide.input[1] not in _constants(model):
        scaled = f"{softmax.input[0]}.scaled"
        divide = onnx.helper.make_node("Div", [softmax.input[0], ""], [scaled])
        model.graph.node.insert(list(model.graph.node).index(softmax), divide)
        divide = next(node for node in model.graph.node if node.output[0] == scaled)
        softmax.input[0] = scaled
    factor = np.float32(temperature if divide.op_type == "Div" else 1 / temperature)
    name = "calibrated_temperature"
    others = [each for each in model.graph.initializer if each.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*others, onnx.numpy_helper.from_array(np.array(factor), name)])
    divide.input[1] = name
    drop_unused_tensors(model)
    return bytes(model.SerializeToString())


def final_softmax(model: onnx.ModelProto) -> onnx.NodeProto:
    """Return the node that makes the probabilities.

    Raises:
        UsageError: It is no softmax.
    """
    found: list[onnx.NodeProto] = [node for node in model.graph.node if "probabilities" in node.output]
    if found and found[0].op_type == "Softmax":
        return found[0]
    raise UsageError("The probabilities of this graph are not made by a softmax. Give a model that Belvedere trained.")


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return constant tensors by name."""
    constants = {weights.name: weights for weights in model.graph.initializer}
    return constants | {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}


def _is_flip(inputs: Sequence[str], constants: Mapping[str, onnx.TensorProto]) -> bool:
    steps = constants.get(inputs[4]) if len(inputs) > 4 else None
    return steps is not None and bool((onnx.numpy_helper.to_array(steps) < 0).all())


def _fold(graph: onnx.ModelProto, disabled: Sequence[str] = ()) -> onnx.ModelProto:
    """Return a graph after constant folding and common subexpression elimination by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # its warning about other machines is for higher levels
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(file)
        content, providers = graph.SerializeToString(), ["CPUExecutionProvider"]
        onnxruntime.InferenceSession(content, options, providers, disabled_optimizers=list(disabled))
        folded = onnx.load(file)
    _keep_used_domains(folded)
    return folded


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """Remove unused operator domains: ONNX Runtime lists all that it supports, older versions fewer."""
    used = {node.domain.removeprefix("ai.onnx") for node in model.graph.node}
    versions = {each.domain: each.version for each in model.opset_import if each.domain in used}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())


def batches(images: Images) -> Iterator[Images]:
    """Yield the images in batches of 16."""
    return (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer's advice on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
