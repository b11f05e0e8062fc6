"""What a model file from anybody may hold, and what its graph may return."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from belvedere.errors import InferenceError, InvalidModelError
from belvedere.inference import session
from belvedere.inference.graph_checks import MAX_FIELDS, GraphRejectedError, check_graph, check_outputs
from belvedere.inference.model import Model, load_model, open_model
from belvedere.inference.model_card import card_from_metadata, card_to_metadata
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.session import Session
from belvedere.runtime import memory
from conftest import CARD, make_pixels, model_bytes, write_image

METADATA = card_to_metadata(CARD)
IMAGES = make_pixels("red")[None]
SECRET = b"A SECRET"
Change = Callable[[onnx.ModelProto], None]


def changed(change: Change) -> bytes:
    """The tiny model after a change of its graph."""
    model = onnx.load_from_string(model_bytes(METADATA))
    change(model)
    return bytes(model.SerializeToString())


def outside(location: str = "secret.bin") -> TensorProto:
    """A tensor whose bytes are in another file."""
    tensor = TensorProto(name="outside", data_type=TensorProto.UINT8, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", "3")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def put_before_logits(*nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = ()) -> Change:
    """Nodes from "raw", which are the logits as they were, to "logits"."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        [place] = [number for number, node in enumerate(graph.node) if node.output[0] == "logits"]
        graph.node[place].output[0] = "raw"
        for number, node in enumerate(nodes):
            graph.node.insert(place + 1 + number, node)
        graph.initializer.extend(tensors)

    return change


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["held"], value=tensor)


def with_attribute(**fields: object) -> Change:
    """An attribute of a node that says nothing of it, with some field set."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.add(name="more", **fields)

    return change


def subgraph() -> onnx.GraphProto:
    held = numpy_helper.from_array(np.array(1, np.float32), "one")
    result = helper.make_tensor_value_info("one", TensorProto.FLOAT, ())
    return helper.make_graph([], "inner", [], [result], [held])


def sparse() -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0]), "places"), [3])


def add_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Own", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))


EXTERNAL = r"TensorProto\.external_data\b"
REFUSED: dict[str, tuple[Change, str]] = {
    "initializer": (lambda model: model.graph.initializer.append(outside()), EXTERNAL),
    "attribute": (put_before_logits(constant(outside())), EXTERNAL),
    "tensors of an attribute": (with_attribute(type=9, tensors=[outside()]), EXTERNAL),
    "location only": (
        lambda model: model.graph.initializer.append(
            TensorProto(name="x", dims=[1], data_location=TensorProto.EXTERNAL)
        ),
        EXTERNAL,
    ),
    "name of a file only": (
        lambda model: model.graph.initializer[0].external_data.add(key="location"),
        EXTERNAL,
    ),
    "graph of an attribute": (with_attribute(type=5, g=subgraph()), r"AttributeProto\.g\b"),
    "graphs of an attribute": (with_attribute(type=10, graphs=[subgraph()]), r"AttributeProto\.graphs\b"),
    "sparse attribute": (with_attribute(type=11, sparse_tensor=sparse()), r"AttributeProto\.sparse_tensor\b"),
    "sparse initializer": (
        lambda model: model.graph.sparse_initializer.append(sparse()),
        r"GraphProto\.sparse_initializer\b",
    ),
    "training": (lambda model: model.training_info.add(), r"ModelProto\.training_info\b"),
    "function": (add_function, r"ModelProto\.functions\b"),
    "context of a provider": (
        put_before_logits(helper.make_node("EPContext", ["raw"], ["logits"], domain="com.microsoft", embed_mode=0)),
        "'com.microsoft'",
    ),
    "custom operator": (
        put_before_logits(helper.make_node("Anything", ["raw"], ["logits"], domain="my.library")),
        "'my.library'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_model_needs_is_refused(kind: str) -> None:
    change, words = REFUSED[kind]
    content = changed(change)
    with pytest.raises(GraphRejectedError, match=words):
        check_graph(content)
    with pytest.raises(InvalidModelError, match=words):
        Model.from_bytes(content, CARD, "m.onnx")


def test_a_graph_in_two_parts_is_read_as_one() -> None:
    """Messages that occur twice are merged by parsers of protocol buffers."""
    second = onnx.ModelProto()
    second.graph.initializer.append(outside())
    with pytest.raises(GraphRejectedError, match=EXTERNAL):
        check_graph(model_bytes(METADATA) + second.SerializeToString())


@pytest.mark.parametrize("location", ["secret.bin", "./secret.bin", "sub/../secret.bin", "link.bin", "ABSOLUTE"])
def test_onnx_runtime_reads_no_other_file_either(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second lock, behind the check of the file."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.bin").symlink_to("secret.bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "check_graph", lambda _: None)
    place = str(tmp_path / "secret.bin") if location == "ABSOLUTE" else location
    nodes = [
        helper.make_node("Cast", ["outside"], ["read"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["raw", "read"], ["logits"]),
    ]
    with pytest.raises(InvalidModelError, match=r"[Ee]xternal"):
        Model.from_bytes(changed(put_before_logits(*nodes, tensors=(outside(place),))), CARD)


def test_the_format_of_onnx_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_graph` does not know it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model_bytes(METADATA), options, providers=["CPUExecutionProvider"])
    content = (tmp_path / "model.ort").read_bytes()
    with pytest.raises(GraphRejectedError):
        check_graph(content)
    monkeypatch.setattr(session, "check_graph", lambda _: None)
    with pytest.raises(InvalidModelError):
        Session(content, "model.ort")


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\xff\xff\xff\xff\x0f",  # a graph of 4 GB in a file of six bytes
        b"\x3a" + b"\xff" * 11,  # a length that does not end
        b"\x3b\x3c",  # a group
        b"\x00\x00",  # field 0
        b"\xba\x80\x80\x80\x80\x80\x01\x00",  # a graph under a number of more than 32 bits
        b"\x3a\x02\x0a\x05",  # a node longer than its graph
        b"\x09\x00",  # eight bytes, of which one is there
    ],
)
def test_a_file_that_is_cut_off_or_no_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(GraphRejectedError):
        check_graph(content)


def test_a_file_of_too_many_parts_is_refused() -> None:
    with pytest.raises(GraphRejectedError, match="500,000 fields"):
        check_graph(b"\x08\x0a" * (MAX_FIELDS + 1))


def test_the_bundled_model_has_few_parts() -> None:
    check_graph(BUNDLED.read_bytes())
    check_graph(b"")  # nothing is refused in it: ONNX Runtime says that it is no model


# What a graph returns

NODES: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "fails": (
        [helper.make_node("Reshape", ["raw", "shape"], ["logits"])],
        r"images uint8 \(1, 8, 8, 3\): .*\bReshape\b",
    ),
    "NaN": ([helper.make_node("Mul", ["raw", "nan"], ["logits"])], "logits .* 1 of 1 images"),
    "infinite": ([helper.make_node("Add", ["raw", "infinite"], ["logits"])], "logits .* 1 of 1 images"),
    "absurd": ([helper.make_node("Add", ["raw", "absurd"], ["logits"])], "logits .* 1 of 1 images"),
    "other batch": ([helper.make_node("Tile", ["raw", "twice"], ["logits"])], r"logits .*\(2, 3\)"),
    "no batch": ([helper.make_node("Slice", ["raw", "none", "none"], ["logits"])], r"logits .*\(0, 3\)"),
    "other rank": ([helper.make_node("Unsqueeze", ["raw", "last"], ["logits"])], r"images uint8|logits .*\(1, 3, 1\)"),
    "other classes": (
        [helper.make_node("Concat", ["raw", "raw"], ["logits"], axis=1)],
        r"images uint8|logits .*\(1, 6\)",
    ),
    "memory": (
        [
            helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
            helper.make_node("Add", ["raw", "zeros"], ["logits"]),
        ],
        r"images uint8 \(1, 8, 8, 3\): .*\bConstantOfShape\b",
    ),
}
TENSORS = (
    numpy_helper.from_array(np.array([7, 5]), "shape"),
    numpy_helper.from_array(np.array([2, 1]), "twice"),
    numpy_helper.from_array(np.array([0]), "none"),
    numpy_helper.from_array(np.array([2]), "last"),
    numpy_helper.from_array(np.array([1 << 40, 3]), "huge"),
    numpy_helper.from_array(np.array(np.nan, np.float32), "nan"),
    numpy_helper.from_array(np.array(np.inf, np.float32), "infinite"),
    numpy_helper.from_array(np.array([3e38, 0, 0], np.float32), "absurd"),
)


def failing(kind: str) -> bytes:
    """The tiny model with outputs of open size, whose logits fail when they are computed."""

    def change(model: onnx.ModelProto) -> None:
        put_before_logits(*NODES[kind][0], tensors=TENSORS)(model)
        for output in model.graph.output:
            output.type.tensor_type.shape.Clear()
            output.type.tensor_type.ClearField("shape")

    return changed(change)


@pytest.mark.parametrize("kind", NODES)
def test_a_model_that_fails_or_returns_no_numbers_is_an_error_of_the_library(kind: str) -> None:
    model = Model(Session(failing(kind), "bad.onnx"), CARD, b"")
    with pytest.raises(InferenceError, match=NODES[kind][1]) as caught:
        model.forward_all(IMAGES)
    assert caught.value.name == "bad.onnx"
    assert "\n" not in str(caught.value)


def good(count: int = 2) -> dict[str, object]:
    equal = np.full((count, 3), 1 / 3, np.float32)
    return {"logits": equal, "probabilities": equal, "embedding": np.ones((count, 5), np.float32)}


SHAPES = {
    "logits": ("N", 3),
    "probabilities": ("N", None),
    "embedding": ("N", 5),
    "class_activation_maps": ("N", 3, 2, 2),
}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("logits", np.ones((2, 3), np.float64), "logits .*float32"),
        ("logits", [np.ones((2, 3), np.float32)], "logits .*float32"),
        ("probabilities", np.full((2, 3), 1.1, np.float32), "probabilities .* 0 .* 1$"),
        ("probabilities", np.full((2, 3), -0.1, np.float32), "probabilities .* 0 .* 1$"),
        ("probabilities", np.ones((2, 4), np.float32), r"probabilities .*\(2, 4\) .*\(2, 3\)"),
        ("embedding", np.ones((2, 4), np.float32), r"embedding .*\(2, 4\) .*\(2, 5\)"),
        ("embedding", np.ones((3, 5), np.float32), r"embedding .*\(3, 5\) .*\(2, 5\)"),
        ("class_activation_maps", np.ones((2, 3, 0, 2), np.float32), r"activation_maps .*\(2, 3, 0, 2\)"),
        ("class_activation_maps", np.full((2, 3, 2, 2), -np.inf, np.float32), "activation_maps .* 2 of 2 images"),
    ],
)
def test_outputs_other_than_promised_are_refused(name: str, values: object, words: str) -> None:
    check_outputs(good(), SHAPES, 2, 3)
    with pytest.raises(ValueError, match=words):
        check_outputs(good() | {name: values}, SHAPES, 2, 3)


def spoilt_when_red() -> bytes:
    """A model whose logits are NaN where the red of an image is over 200."""
    nodes = [
        helper.make_node("Gather", ["mean", "red"], ["redness"], axis=1),
        helper.make_node("Sub", ["limit", "redness"], ["below"]),
        helper.make_node("Sqrt", ["below"], ["root"]),
        helper.make_node("Add", ["raw", "root"], ["logits"]),
    ]
    tensors = (
        numpy_helper.from_array(np.array([2]), "red"),
        numpy_helper.from_array(np.array(200, np.float32), "limit"),
    )
    return changed(put_before_logits(*nodes, tensors=tensors))


def test_predict_ends_in_one_line_and_what_it_printed_is_json(tmp_path: Path) -> None:
    """In a process of its own: what was answered before stands in the document, with the reason of its end."""
    (tmp_path / "model.onnx").write_bytes(spoilt_when_red())
    for number in range(40):
        write_image(tmp_path / f"photos/{number:02}.png", "blue", number)
    write_image(tmp_path / "photos/99.png", "red")
    command = [sys.executable, "-m", "belvedere", "predict", "model.onnx", "photos", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("belvedere:")]
    assert "model.onnx" in line
    assert "1 of 9 images" in line
    assert "photos/32.png" in line  # the first image of the batch

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(done.stdout, parse_constant=refuse)
    assert len(document["predictions"]) == 32
    assert "1 of 9 images" in document["error"]


def test_a_pipe_in_a_models_place_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(InvalidModelError, match=re.escape(str(tmp_path / "model.onnx"))):
        load_model(tmp_path / "model.onnx")


def test_a_file_over_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(1 << 31)  # sparse
    with pytest.raises(InvalidModelError, match="2,147,483,648 bytes"):
        load_model(tmp_path / "model.onnx")


def test_an_embedding_of_open_size_is_named() -> None:
    def change(model: onnx.ModelProto) -> None:
        for size in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
            size.dim_param = "side"
        [mean] = [node for node in model.graph.node if node.output[0] == "embedding"]
        [gather] = [node for node in model.graph.node if node.input[0] == "embedding"]
        mean.output[0] = gather.input[0] = "means"
        model.graph.node.append(helper.make_node("Flatten", ["pixels"], ["embedding"]))
        [output] = [output for output in model.graph.output if output.name == "embedding"]
        output.type.tensor_type.ClearField("shape")

    model = Model.from_bytes(changed(change), CARD)
    assert model.forward(IMAGES).embedding.shape == (1, 192)
    with pytest.raises(InvalidModelError, match=r"\(N, D\)"):
        _ = model.embedding_dim


# Memory

ASKS = """

from belvedere.inference import session
from belvedere.errors import InferenceError
session.memory_left = lambda: 400 << 20
from belvedere.inference.model import load_model
for megabytes in (1, 1000):
    try:
        print(load_model(f"{megabytes}.onnx").predict("photo.png")[0].error)
    except InferenceError as error:
        print(error.reason)
"""


def test_a_model_takes_no_more_memory_than_there_is(tmp_path: Path) -> None:
    """In a process of its own: the limit is set once, for all models."""
    write_image(tmp_path / "photo.png", "blue")
    nodes = [
        helper.make_node("Expand", ["raw", "many"], ["copies"]),
        helper.make_node("ReduceMean", ["copies"], ["logits"], axes=[0], keepdims=0),
    ]
    for megabytes in (1, 1000):
        many = numpy_helper.from_array(np.array([megabytes * (1 << 20) // 12, 1, 3]), "many")
        (tmp_path / f"{megabytes}.onnx").write_bytes(changed(put_before_logits(*nodes, tensors=(many,))))
    done = subprocess.run([sys.executable, "-c", ASKS], cwd=tmp_path, capture_output=True, text=True, check=True)
    small, large = done.stdout.splitlines()
    assert small == "None"
    assert "memory" in large


STAT = (
    "anon 5\nactive_file 300000000\ninactive_file 400000000\n"
    "total_active_file 600000000\ntotal_inactive_file 700000000\n"
)


@pytest.mark.parametrize(
    ("machine", "group", "left"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n", {}, 4 << 30),
        ("MemAvailable: 4194304 kB", {"max": "3000000000", "current": "1000000000", "stat": ""}, 2_000_000_000),
        ("MemAvailable: 4194304 kB", {"max": "max", "current": "1000000", "stat": ""}, 4 << 30),
        ("MemAvailable: 4194304 kB", {"max": "1", "current": "2", "stat": ""}, memory.MIN_BYTES),
        ("MemAvailable: 4 kB", {}, memory.MIN_BYTES),
        ("", {"max": "3000000000", "current": "2900000000", "stat": STAT}, 800_000_000),  # most of it files
        ("", {"limit_in_bytes": "3000000000", "usage_in_bytes": "2900000000", "stat": STAT}, 1_400_000_000),
        ("", {}, None),
    ],
)
def test_memory_that_is_left(
    machine: str, group: dict[str, str], left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text(machine)
    for name, value in group.items():
        version = tmp_path / str(int("limit_in_bytes" in group))
        version.mkdir(exist_ok=True)
        (version / f"memory.{name}").write_text(f"{value}\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    groups = {tmp_path / str(version): names for version, names in enumerate(memory.CONTROL_GROUPS.values())}
    monkeypatch.setattr(memory, "CONTROL_GROUPS", groups)
    assert memory.memory_left() == left


# Metadata

DAMAGED: dict[str, dict[str, str]] = {
    "deep": {"layers": "[" * 100_000},
    "deep but closed": {"class_names": "[" * 100_000 + "]" * 100_000},
    "no size": {"preprocess": '{"height": 0, "width": 8}'},
    "absurd size": {"preprocess": '{"height": 100000000, "width": 8}'},
    "huge number": {"preprocess": '{"height": 1' + "0" * 5000 + ', "width": 8}'},
    "NaN": {"uncertainty": '{"temperature": NaN}'},
    "infinite": {"uncertainty": '{"conformal_threshold": 1e999}'},
    "temperature": {"uncertainty": '{"temperature": 0}'},
    "one quantile": {"uncertainty": '{"ood_score_quantiles": [1.0]}'},
    "quantiles out of order": {"uncertainty": '{"ood_score_quantiles": [1.0, 0.0]}'},
    "tags of other classes": {
        "uncertainty": '{"tag_model": {"scale": [1.0], "bias": [1.0], "cross_class_weights": []}}'
    },
    "context of other classes": {
        "uncertainty": json.dumps(
            {"tag_model": {"scale": [1.0] * 3, "bias": [1.0] * 3, "cross_class_weights": [[0.0] * 2] * 3}}
        )
    },
    "half a character": {"class_names": '["a", "b", "\\ud800"]'},
    "no classes": {"class_names": "[]"},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_metadata_that_would_fail_later_are_refused(kind: str) -> None:
    metadata = METADATA | DAMAGED[kind]
    with pytest.raises(InvalidModelError) as caught:
        card_from_metadata(metadata, "m.onnx")
    with pytest.raises(InvalidModelError, match=re.escape(str(caught.value))):
        open_model(model_bytes(metadata), "m.onnx")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
