"""Models in other forms: each one answers as the original does, or is not written."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from belvedere.data.dataset import load_dataset
from belvedere.errors import (
    ExportError,
    InferenceError,
    InvalidModelError,
    OutputExistsError,
    UnknownNameError,
    UsageError,
)
from belvedere.images.decode import DecodedImage
from belvedere.inference import export as exporting
from belvedere.inference import onnx_transforms
from belvedere.inference.export import Tolerance, export
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_paths import BUNDLED
from belvedere.runtime.progress import Progress
from belvedere.training.networks import NETWORKS, find_network
from belvedere.training.networks.timm_backbone import find_backbone
from belvedere.training.onnx_export import export_graph, write_model
from belvedere.types.model import ModelCard
from conftest import CARD, CLASS_NAMES, make_pixels, write_classes

SIDE = 8


def network_bytes(*, mirrored: bool = False, card: ModelCard = CARD) -> bytes:
    """A small convolutional graph as the exporter writes them: from bytes, perhaps mean of an image and its mirror."""
    random = np.random.default_rng(0)
    weights = {
        "conv": random.normal(0, 0.2, (128, 3, 3, 3)),
        "mix": np.eye(128)[:, :, None, None],
        "classify": np.zeros((128, 3)),
        "mean_": np.array(115.0),
        "deviation": np.array(60.0),
        "unlike": np.array(0.5),  # every image's score
    }
    weights["conv"][:3] = np.eye(3)[:, :, None, None] / 9  # channels of the mean color, which decide
    weights["classify"][:3] = np.eye(3)[:, ::-1] * 4
    nodes = [
        helper.make_node("Transpose", ["images"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["first"], ["float"], to=TensorProto.FLOAT),
    ]
    views = ["float", "turned"] if mirrored else ["float"]
    if mirrored:
        nodes.append(helper.make_node("Slice", ["float", "end", "start", "axis", "step"], ["turned"]))
    for number, view in enumerate(views):
        nodes += [
            helper.make_node("Sub", [view, "mean_"], [f"shifted{number}"]),
            helper.make_node("Div", [f"shifted{number}", "deviation"], [f"scaled{number}"]),
            helper.make_node("Conv", [f"scaled{number}", "conv"], [f"stem{number}"]),
            helper.make_node("Conv", [f"stem{number}", "mix"], [f"map{number}"]),
            helper.make_node("ReduceMean", [f"map{number}"], [f"seen{number}"], axes=[2, 3], keepdims=0),
        ]
    nodes += [
        helper.make_node("Mean", [f"seen{number}" for number in range(len(views))], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "classify"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceSum", ["probabilities", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "unlike"], ["ood_score"]),
    ]
    held = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    for name, value in (("end", -1), ("start", -(2**31)), ("axis", 3), ("step", -1), ("axes", 1)):
        held.append(numpy_helper.from_array(np.array([value]), name))
    outputs = [("logits", 3), ("probabilities", 3), ("embedding", 128)]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", SIDE, SIDE, 3))],
        [
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size)) for name, size in outputs),
            helper.make_tensor_value_info("ood_score", TensorProto.FLOAT, ("N",)),
        ],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, card_to_metadata(card))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def original(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.onnx").write_bytes(network_bytes(mirrored=True))
    return tmp_path / "run"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_classes(tmp_path / "photos", 20)
    (folder / "red/broken.png").write_text("no image")
    return folder


def sample_images() -> NDArray[np.uint8]:
    return np.stack([make_pixels(name, number * 1000) for number in range(20) for name in CLASS_NAMES])


def test_a_dataset_is_its_images(original: Path, photos: Path, tmp_path: Path) -> None:
    by_folder = export(original, tmp_path / "a.onnx", "nchw", calibration_data=photos)
    by_dataset = export(original, tmp_path / "b.onnx", "nchw", calibration_data=load_dataset(photos))
    assert by_folder == by_dataset


def compared(result: exporting.Export) -> exporting.ExportComparison:
    assert result.comparison is not None
    return result.comparison


@pytest.mark.parametrize("form", ["int8", "float16-weights"])
def test_a_form_answers_as_the_original_and_is_a_model_like_any(
    form: str, original: Path, photos: Path, tmp_path: Path
) -> None:
    before = (original / "model.onnx").read_bytes()
    out = tmp_path / f"{form}.onnx"
    done = export(original, out, form, calibration_data=photos)
    found = compared(done)
    assert found.within_tolerance
    assert (found.agreement, found.num_images) == (1.0, 48)
    assert done.num_calibration_images == (12 if form == "int8" else 0)
    opened, expected = load_model(out), load_model(original)
    assert opened.card == expected.card
    assert opened.fingerprint != expected.fingerprint
    change = np.abs(
        opened.forward(sample_images()).probabilities - expected.forward(sample_images()).probabilities
    ).max()
    assert change < 0.1
    assert done.size_bytes < done.original_size_bytes
    answers = opened.predict(photos / "blue")
    assert {answer.predicted_label for answer in answers} == {"blue"}
    noted = json.loads(str({each.key: each.value for each in onnx.load(out).metadata_props}["export"]))
    assert noted["format"] == form
    assert noted["comparison"]["max_change"] == compared(done).max_change
    assert noted["fingerprint"] == expected.fingerprint
    assert (original / "model.onnx").read_bytes() == before


def test_an_open_model_needs_no_file(original: Path, photos: Path, tmp_path: Path) -> None:
    model = load_model(original)
    (original / "model.onnx").unlink()
    done = export(model, tmp_path / "x.onnx", "float16-weights", calibration_data=photos)
    assert done.original_size_bytes == len(model.content)
    assert load_model(tmp_path / "x.onnx").card == model.card


def test_int8_computes_in_8_bits(original: Path, photos: Path, tmp_path: Path) -> None:
    export(original, tmp_path / "x.onnx", "int8", calibration_data=photos)
    graph = onnx.load(tmp_path / "x.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    [weights] = [each for each in graph.initializer if tuple(each.dims) == (128, 128, 1, 1)]
    values = numpy_helper.to_array(weights)
    assert values.dtype == np.int8
    assert np.abs(values.astype(int)).max() <= 64  # 7 bits


@pytest.mark.parametrize("mirrored", [False, True])
def test_int8_starts_and_decides_in_32_bits(mirrored: bool, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(network_bytes(mirrored=mirrored))
    export(tmp_path, tmp_path / "x.onnx", "int8", calibration_data=photos)
    graph = onnx.load(tmp_path / "x.onnx").graph
    held = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    assert [each.dtype for each in held.values() if each.shape == (128, 3, 3, 3)] == [np.float32]
    first = [node for node in graph.node if node.op_type == "Conv" and held.get(node.input[1], np.zeros(0)).ndim == 4]
    assert len(first) == 1 + mirrored  # the convolution that reads the pixels of each view
    assert held["classify"].dtype == np.float32


def test_plain_takes_floats_in_another_order_and_is_not_for_predict(
    original: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plain.onnx"
    result = export(original, out, "nchw", calibration_data=photos)
    assert compared(result).max_change < 1e-5
    graph = onnx.load(out).graph
    assert not {"Cast", "Transpose"} & {node.op_type for node in graph.node}
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape) == ("tensor(float)", ["N", 3, SIDE, SIDE])
    given = sample_images().transpose(0, 3, 1, 2).astype(np.float32)
    [found] = session.run(["probabilities"], {"images": given})
    assert found == pytest.approx(load_model(original).forward(sample_images()).probabilities, abs=1e-5)
    with pytest.raises(InvalidModelError, match="'belvedere-nchw/2'"):
        load_model(out)


def check_plain(model: onnx.ModelProto) -> None:
    """What older and other runtimes ask for."""
    assert model.ir_version <= 8
    assert [(each.domain, each.version <= 20) for each in model.opset_import] == [("", True)]
    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    asked = {name for node in model.graph.node for name in node.input}
    assert set(held) <= asked  # nothing is left of what was replaced
    for node in model.graph.node:
        assert node.domain in ("", "ai.onnx")
        assert node.op_type != "Slice" or all((held[step] > 0).all() for step in node.input[4:])
        assert node.op_type != "Unsqueeze" or held[node.input[1]].size == 1
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("name", ["article", "compact-small", "resnet10t", "test_vit"])
def test_the_plain_form_of_a_network_is_for_older_and_other_runtimes(name: str) -> None:
    """The article's has an Unsqueeze of two axes, a transformer GELUs and a class token that both views read."""
    entry = find_network(name) if name in NETWORKS else find_backbone(name)
    network = entry.create(3).eval()
    network.flip_tta = True
    size = entry.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (2, size.height, size.width, 3)).astype(np.uint8)
    graph = export_graph(network, size, pixels).graph
    plain = onnx_transforms.to_nchw_float(graph)
    check_plain(plain)
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    [found] = session.run(["probabilities"], {"images": pixels.transpose(0, 3, 1, 2).astype(np.float32)})
    expected = Model.from_bytes(graph.SerializeToString(), None).forward(pixels).probabilities
    assert found == pytest.approx(expected, abs=1e-5)
    asked = [name for node in plain.graph.node for name in node.input]
    expanded = [node.output[0] for node in plain.graph.node if node.op_type == "Expand"]
    assert all(asked.count(output) == 1 for output in expanded)
    made_by = {output: node.op_type for node in plain.graph.node for output in node.output}
    assert "Div" not in {made_by[node.input[0]] for node in plain.graph.node if node.op_type == "Erf"}


def test_the_page_answers_as_predict_without_belvedere(tmp_path: Path) -> None:
    """The lines of docs/export.md, on images that are turned by EXIF, transparent, and larger than the input."""
    page = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    lines = page.split("```python\n")[1].split("```")[0]
    random = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(30):
        small = random.integers(0, 255, (6, 8, 4 if number % 2 else 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((240, 180), Image.Resampling.BICUBIC)
        image.getexif()[0x0112] = number % 8 + 1  # its orientation
        image.save(photos / f"{number}.png", exif=image.getexif())
    export(BUNDLED, tmp_path / "plain.onnx", "nchw", calibration_data=photos)
    check_plain(onnx.load(tmp_path / "plain.onnx"))
    model = load_model()
    for file in sorted(photos.iterdir()):
        held: dict[str, dict[str, float]] = {}
        program = lines.replace('"photo.jpg"', repr(str(file))).replace(
            '"nchw.onnx"', repr(str(tmp_path / "plain.onnx"))
        )
        exec(program, held)  # noqa: S102 - ours
        [expected] = model.predict(file)
        assert tuple(held["probabilities"]) == model.class_names
        assert held["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)


@pytest.mark.parametrize("library", ["openvino", "cv2"])
def test_other_runtimes_open_the_plain_form(library: str, original: Path, photos: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip(library)
    file = tmp_path / "plain.onnx"
    export(original, file, "nchw", calibration_data=photos)
    given = sample_images().transpose(0, 3, 1, 2).astype(np.float32)
    if library == "cv2":
        network = runtime.dnn.readNetFromONNX(str(file))
        rows = []
        for image in given:
            network.setInput(image[None])
            rows.append(network.forward("probabilities")[0])
        found = np.stack(rows)
    else:
        compiled = runtime.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled(given)[compiled.output("probabilities")]
    assert found == pytest.approx(load_model(original).forward(sample_images()).probabilities, abs=1e-4)


def test_one_view_looks_once(original: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.onnx"
    export(original, out, "float16-weights", calibration_data=photos, tta=False)
    operators = [node.op_type for node in onnx.load(out).graph.node]
    assert operators.count("Conv") == 2
    assert "Slice" not in operators
    alone = Model.from_bytes(network_bytes(), CARD)
    assert load_model(out).forward(sample_images()).probabilities == pytest.approx(
        alone.forward(sample_images()).probabilities, abs=1e-3
    )
    (tmp_path / "alone.onnx").write_bytes(network_bytes())
    with pytest.raises(UsageError, match="`tta`"):
        export(tmp_path / "alone.onnx", tmp_path / "x.onnx", "float16-weights", calibration_data=photos, tta=False)


def test_one_view_of_a_trained_network_takes_half_the_work(photos: Path, tmp_path: Path) -> None:
    """Its layers are normalized, which would make two layers of one before they are seen to be equal."""
    entry = find_network("compact-small")
    network = entry.create(3).eval()
    network.flip_tta = True
    size = entry.preprocess
    images = np.random.default_rng(0).integers(0, 256, (2, size.height, size.width, 3)).astype(np.uint8)
    write_model(export_graph(network, size, images), replace(CARD, preprocess=size), tmp_path / "two.onnx")
    export(
        tmp_path / "two.onnx", tmp_path / "one.onnx", "float16-weights", calibration_data=photos, tta=False, force=True
    )
    two, one = (
        [node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node].count("Conv")
        for name in ("two", "one")
    )
    assert (one, two > 0) == (two / 2, True)


def test_a_form_over_its_bound_is_refused_and_forced(
    original: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCES", {"int8": Tolerance(1.0, 1e-9)})
    out = tmp_path / "x.onnx"
    with pytest.raises(ExportError, match=r"48 images.*100\.0%"):
        export(original, out, "int8", calibration_data=photos)
    assert not out.exists()
    done = export(original, out, "int8", calibration_data=photos, force=True)
    assert not compared(done).within_tolerance
    assert load_model(out).class_names == CLASS_NAMES


def test_a_form_that_draws_none_of_these_elsewhere_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probabilities stay; what moves is the score that the card's quantiles were fitted to."""
    original, out = tmp_path / "original.onnx", tmp_path / "x.onnx"
    uncertainty = replace(CARD.uncertainty, ood_score_quantiles=(0.0, 0.9, 1.0))
    original.write_bytes(network_bytes(card=replace(CARD, uncertainty=uncertainty)))
    assert compared(export(original, out, "float16-weights", calibration_data=photos)).ood_flip_rate == 0
    plain = export(original, tmp_path / "plain.onnx", "nchw", calibration_data=photos)
    assert compared(plain).ood_flip_rate is None

    def move(graph: onnx.ModelProto) -> onnx.ModelProto:
        moved: onnx.ModelProto = onnx.ModelProto.FromString(graph.SerializeToString())
        [score] = [each for each in moved.graph.initializer if each.name == "unlike"]
        score.CopyFrom(numpy_helper.from_array(np.array(2, np.float32), "unlike"))
        return moved

    monkeypatch.setattr(exporting, "to_float16_weights", move)
    with pytest.raises(ExportError, match=r'"none of these" 100\.0%'):
        export(original, tmp_path / "y.onnx", "float16-weights", calibration_data=photos)
    assert not (tmp_path / "y.onnx").exists()
    done = export(original, tmp_path / "y.onnx", "float16-weights", calibration_data=photos, force=True)
    found = compared(done)
    assert (found.ood_flip_rate, found.max_change, found.within_tolerance) == (1.0, 0.0, False)


@pytest.mark.parametrize("form", ["int8", "float16-weights", "nchw"])
def test_a_model_that_fails_is_an_error_of_the_library(form: str, photos: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string(network_bytes())
    held = next(each for each in model.graph.initializer if each.name == "classify")
    held.CopyFrom(numpy_helper.from_array(np.full((128, 3), np.nan, np.float32), "classify"))
    (tmp_path / "nan.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InferenceError) as caught:
        export(tmp_path / "nan.onnx", tmp_path / "x.onnx", form, calibration_data=photos, force=True)
    assert Path(caught.value.name).name == "nan.onnx"
    assert not (tmp_path / "x.onnx").exists()


def test_a_graph_that_can_not_be_changed_is_an_error_of_the_library(photos: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string(network_bytes())
    model.graph.output[0].type.Clear()  # runs, and is no graph by the standard
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    load_model(tmp_path / "odd.onnx").forward(sample_images())
    with pytest.raises(ExportError, match=r"odd\.onnx"):
        export(tmp_path / "odd.onnx", tmp_path / "x.onnx", "float16-weights", calibration_data=photos)
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("total", [30, 639, 640, 641, 1200, 1279, 1280, 3000])
def test_images_are_from_all_over_the_folder(total: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def see(sources: Iterable[object], _: object) -> Iterator[DecodedImage]:
        for source in sources:
            read.append(int(Path(str(source)).stem))
            yield DecodedImage(np.zeros((1, 1, 3), np.uint8))

    monkeypatch.setattr(
        exporting, "iter_images", lambda _: iter([tmp_path / f"{number}.png" for number in range(total)])
    )
    monkeypatch.setattr(exporting, "read_inputs", see)
    images = exporting._read_images(exporting._list_images(tmp_path), "images", CARD.preprocess, Progress())
    assert len(images) == len(set(read)) == min(total, 640)
    parts = np.bincount(np.array(read) * 6 // total, minlength=6)
    assert parts.min() > 0
    assert parts.max() - parts.min() <= 2


def test_what_may_not_be_written_is_refused(original: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    for out, can_overwrite in ((original / "model.onnx", False), (tmp_path / "there.onnx", True)):
        with pytest.raises(OutputExistsError) as exists:
            export(original, out, "float16-weights", calibration_data=photos)
        assert (exists.value.path, exists.value.can_overwrite) == (out, can_overwrite)
    for out in (tmp_path, tmp_path / "gone/x.onnx"):
        with pytest.raises(UsageError, match=f"^{re.escape(str(out))} ") as refused:
            export(original, out, "float16-weights", calibration_data=photos)
        assert refused.type is UsageError
    for out in (original / "model.onnx", next(photos.rglob("*.png"))):
        with pytest.raises(OutputExistsError) as exists:
            export(original, out, "float16-weights", calibration_data=photos, overwrite=True)
        assert (exists.value.path, exists.value.can_overwrite) == (out, False)
    assert (tmp_path / "there.onnx").read_text() == "mine"
    export(original, tmp_path / "there.onnx", "float16-weights", calibration_data=photos, overwrite=True)
    assert load_model(tmp_path / "there.onnx").class_names == CLASS_NAMES


def test_unknown_form_and_too_few_images_are_refused(original: Path, tmp_path: Path) -> None:
    few = write_classes(tmp_path / "few", 2)
    with pytest.raises(UnknownNameError) as unknown:
        export(original, tmp_path / "x.onnx", "int9", calibration_data=few)
    assert (unknown.value.name, unknown.value.suggestion) == ("int9", "int8")
    with pytest.raises(UsageError, match=r"\b6\b.* 30\b"):
        export(original, tmp_path / "x.onnx", "float16-weights", calibration_data=few)


def test_the_bundled_model_takes_every_form(tmp_path: Path) -> None:
    """The real graph, with its real weights, on images of noise: how it is changed, not how well it answers."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(30):
        small = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((150, 150), Image.Resampling.BICUBIC).save(tmp_path / f"photos/{number}.jpg")
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(BUNDLED).graph.node)
    for form in ("float16-weights", "nchw"):
        out = tmp_path / f"{form}.onnx"
        export(BUNDLED, out, form, calibration_data=tmp_path / "photos", force=True)
        assert [node.op_type for node in onnx.load(out).graph.node].count("Conv") == convolutions


def test_an_int8_model_takes_other_forms(original: Path, photos: Path, tmp_path: Path) -> None:
    """Another quantization is refused."""
    export(original, tmp_path / "int8.onnx", "int8", calibration_data=photos, force=True)
    made = export(tmp_path / "int8.onnx", tmp_path / "nchw.onnx", "nchw", calibration_data=photos)
    assert compared(made).max_change < 1e-5
    with pytest.raises(UsageError):
        export(tmp_path / "int8.onnx", tmp_path / "again.onnx", "int8", calibration_data=photos)
    assert not (tmp_path / "again.onnx").exists()


def test_the_command_prints_what_was_compared(original: Path, photos: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from belvedere.cli import app

    arguments = ["export", str(original), "--format", "int8", "--calibration-data", str(photos), "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "a.onnx")])
    assert done.exit_code == 0, done.output
    assert "none of these" not in done.stdout  # which this model cannot tell
    assert re.search(r"same class on 100.00% of 48 images", done.stdout)
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "b.onnx"), "--json"])
    assert json.loads(done.stdout)["comparison"]["within_tolerance"] is True
