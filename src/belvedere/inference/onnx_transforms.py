"""A model's graph in other forms: whole numbers of 8 bits, weights of 16 bits, for other runtimes, one view of two.

Knows what may be changed in a graph; does not know how far the answers move by it, or files.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from belvedere.errors import MissingDependencyError, UsageError
from belvedere.inference.model import INPUT

try:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
except ModuleNotFoundError as error:
    raise MissingDependencyError("Exporting", "onnx", "export") from error

MIN_FLOAT16_SIZE = 1000  # numbers: smaller weights are kept in 32 bits
TOGETHER = 16  # pictures at once
PLAIN_IR_VERSION = 8  # of the file's format: ONNX Runtime 1.17 reads up to 9
HEAD = "embedding"  # what follows from it is computed in 32 bits: it is little, and all answers hang on it

# What makes new weights of two layers, so that equal ones no longer seem equal: not while two views are made one.
FUSIONS = ("ConvBNFusion", "ConvMulFusion", "ConvAddFusion")
ODD = ("MatMul_BatchNormalization_Fusion",)  # it makes a Gemm of three axes, which the standard does not have

Pictures = NDArray[np.uint8]  # (N, H, W, 3)


def read_graph(file: Path) -> onnx.ModelProto:
    """Opens a graph to change; no other file is read."""
    return onnx.load(file, load_external_data=False)


def load_graph(content: bytes) -> onnx.ModelProto:
    """Open a graph that was made here."""
    return onnx.load_from_string(content)


def write_card(graph: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Returns the bytes of a file with this graph and nothing but these metadata.

    Raises:
        onnx.checker.ValidationError: It is no graph by the standard.
    """
    onnx.helper.set_model_props(graph, dict(metadata))
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def to_int8(graph: onnx.ModelProto, pictures: Pictures) -> onnx.ModelProto:
    """Returns a graph that computes in 8 bits, with `QuantizeLinear` and `DequantizeLinear` around each operation.

    Weights, by channel, have 7 bits of them: processors without VNNI add products of 8 by 8 bits in 16, which overflow
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Args:
        graph: A model of ours; stays as it is.
        pictures: (N, H, W, 3), whose activations set the ranges.
    """

    class Calibration(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime's has no types
        def __init__(self) -> None:
            self._batches = batches(pictures)

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
            nodes_to_exclude=_downstream_nodes(folded, HEAD),
        )
        return _quantize_input_directly(onnx.load(file))


def _downstream_nodes(graph: onnx.ModelProto, tensor: str) -> list[str]:
    """The names of the nodes that a tensor decides; a node without one gets one."""
    reached, names = {tensor}, []
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{number}"
        if reached.intersection(node.input):
            reached.update(node.output)
            names.append(node.name)
    return names


def _quantize_input_directly(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Takes out what makes numbers about 0 of bytes, to make whole numbers of them again: one scale says the same."""
    constants = {weights.name: weights for weights in graph.graph.initializer}
    makers = {output: node for node in graph.graph.node for output in node.output}
    for quantized in [node for node in graph.graph.node if node.op_type == "QuantizeLinear"]:
        chain = _trace(quantized, makers, ("Div", "Sub", "Cast"))
        if chain is None:
            continue
        divide, subtract, cast = chain
        if divide.input[1] not in constants or subtract.input[1] not in constants:
            continue
        deviation, mean = (onnx.numpy_helper.to_array(constants[node.input[1]]) for node in (divide, subtract))
        if mean.size != 1 or deviation.size != 1 or mean != np.clip(mean.round(), 0, 255):
            continue
        _, scale, zero = quantized.input
        constants[scale].CopyFrom(onnx.numpy_helper.from_array((1 / deviation).reshape(()), scale))
        constants[zero].CopyFrom(onnx.numpy_helper.from_array(mean.astype(np.uint8).reshape(()), zero))
        for node in graph.graph.node:
            node.input[:] = [cast.input[0] if name == quantized.output[0] else name for name in node.input]
    _drop_unused(graph)
    return graph


def _trace(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], kinds: Sequence[str]
) -> list[onnx.NodeProto] | None:
    """The nodes that make a node's input, one behind the other; None where they are of other kinds."""
    chain = []
    for kind in kinds:
        made = makers.get(node.input[0])
        if made is None or made.op_type != kind:
            return None
        chain.append(node := made)
    return chain


def _drop_unused(graph: onnx.ModelProto) -> None:
    """Takes out the nodes that nothing asks."""
    asked = {output.name for output in graph.graph.output}
    for node in reversed(list(graph.graph.node)):  # each stands behind those that it asks
        if asked.isdisjoint(node.output):
            graph.graph.node.remove(node)
        else:
            asked.update(node.input)


def to_float16_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph that keeps its large weights in 16 bits and still computes in 32: half the file.

    Args:
        graph: A model of ours; stays as it is.

    Returns:
        Another, with a `Cast` behind each weight of `MIN_FLOAT16_SIZE` numbers or more.
    """
    halved = _copy(graph)
    casts = []
    for weights in halved.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size >= MIN_FLOAT16_SIZE:
            name = weights.name
            weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for place, cast in enumerate(casts):
        halved.graph.node.insert(place, cast)
    return halved


def to_nchw_float(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph whose input is float32 (N, 3, H, W), RGB from 0 to 255; what that makes needless is folded away.

    It opens in older and other runtimes: see `PLAIN_IR_VERSION`, `_keep_used_domains` and `_gather_backwards`.

    Args:
        graph: A model of ours; stays as it is.
    """
    plain = _copy(graph)
    [taken] = plain.graph.input
    count, height, width, _ = taken.type.tensor_type.shape.dim
    sizes = [count.dim_param or count.dim_value, 3, height.dim_value, width.dim_value]
    for node in plain.graph.node:
        node.input[:] = [f"{INPUT}.last" if name == INPUT else name for name in node.input]
    turn = onnx.helper.make_node("Transpose", [INPUT], [f"{INPUT}.last"], perm=[0, 2, 3, 1])
    plain.graph.node.insert(0, turn)
    taken.CopyFrom(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, sizes))
    del plain.graph.value_info[:]  # they speak of bytes
    plain = _fold(plain, ODD)
    _gather_backwards(plain)
    _unsqueeze_one_by_one(plain)
    _multiply_before_erf(plain)
    _expand_once_each(plain)
    _drop_unused_tensors(plain)
    plain.ir_version = min(plain.ir_version, PLAIN_IR_VERSION)
    return plain


def _gather_backwards(model: onnx.ModelProto) -> None:
    """Replace each `Slice` that goes backwards by a `Gather`: OpenCV's dnn up to 4.11 gets its shape wrong."""
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
        places = np.arange(size)[int(start[0]) : int(end[0]) : int(step[0])]
        name = f"{node.output[0]}.places"
        model.graph.initializer.append(onnx.numpy_helper.from_array(places, name))
        node.CopyFrom(onnx.helper.make_node("Gather", [node.input[0], name], node.output, axis=int(axis[0])))


def _unsqueeze_one_by_one(model: onnx.ModelProto) -> None:
    """Replace each `Unsqueeze` of several axes by one for each axis: OpenCV's dnn takes one."""
    constants = _constants(model)
    for place, node in reversed(list(enumerate(model.graph.node))):
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
            model.graph.node.insert(place + 1 + number, single)
            tensor = output
        del model.graph.node[place]


def _multiply_before_erf(model: onnx.ModelProto) -> None:
    """Multiply by the reciprocal in each GELU: OpenCV's dnn, which looks for a GELU, crashes where it divides."""
    constants = _constants(model)
    followed = {node.input[0] for node in model.graph.node if node.op_type == "Erf"}
    for node in model.graph.node:
        if node.op_type == "Div" and node.output[0] in followed and node.input[1] in constants:
            factor = 1 / onnx.numpy_helper.to_array(constants[node.input[1]])
            node.op_type, node.input[1] = "Mul", f"{node.output[0]}.factor"
            model.graph.initializer.append(onnx.numpy_helper.from_array(factor, node.input[1]))


def _expand_once_each(model: onnx.ModelProto) -> None:
    """Give each reader of an expanded constant, such as a class token, its own: OpenCV's dnn 4.11 adds it for each."""
    constants = _constants(model)
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "Expand" or node.input[0] not in constants:
            continue
        readers = [other for other in model.graph.node if node.output[0] in other.input]
        for number, reader in enumerate(readers[1:]):
            name = f"{node.output[0]}.{number}"
            reader.input[:] = [name if each == node.output[0] else each for each in reader.input]
            model.graph.node.insert(place + 1, onnx.helper.make_node("Expand", node.input, [name]))


def _drop_unused_tensors(model: onnx.ModelProto) -> None:
    asked = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    kept = [each for each in model.graph.initializer if each.name in asked]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def remove_tta(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Takes each mirroring out of a graph: both halves are then the same, and folding makes them one."""
    single = _copy(graph)
    constants = _constants(single)
    mirrored = [node for node in single.graph.node if node.op_type == "Slice" and _is_flip(node.input, constants)]
    if not mirrored:
        raise UsageError("This model answers from one view already. Leave out --no-tta.")
    for node in mirrored:
        node.op_type = "Identity"
        del node.input[1:]
    return _fold(single, FUSIONS)


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Tensors by name."""
    constants = {weights.name: weights for weights in model.graph.initializer}
    return constants | {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}


def _is_flip(inputs: Sequence[str], constants: Mapping[str, onnx.TensorProto]) -> bool:
    steps = constants.get(inputs[4]) if len(inputs) > 4 else None
    return steps is not None and bool((onnx.numpy_helper.to_array(steps) < 0).all())


def _fold(graph: onnx.ModelProto, leaving: Sequence[str] = ()) -> onnx.ModelProto:
    """Lets ONNX Runtime work out what is constant, and make one of what is there twice, in the standard's operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # it warns that the file is for this machine, which holds of higher levels only
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(file)
        content, providers = graph.SerializeToString(), ["CPUExecutionProvider"]
        onnxruntime.InferenceSession(content, options, providers, disabled_optimizers=list(leaving))
        folded = onnx.load(file)
    _keep_used_domains(folded)
    return folded


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """Remove the domains that no node uses: ONNX Runtime writes all that it knows, and older ones know fewer."""
    used = {node.domain.removeprefix("ai.onnx") for node in model.graph.node}
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _copy(graph: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(graph)
    return copied


def batches(pictures: Pictures) -> Iterator[Pictures]:
    """Some pictures at a time."""
    return (pictures[start : start + TOGETHER] for start in range(0, len(pictures), TOGETHER))


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends on the root logger what has been done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
