"""No model answers in another's place: what a path means, in every command that takes a model."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from belvedere.data.dataset import load_dataset
from belvedere.errors import InvalidModelError, UsageError
from belvedere.evaluation.evaluate import evaluate
from belvedere.inference.batch import STDIN, choose_model, predict_files
from belvedere.inference.export import export
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import (
    BUNDLED,
    TRAINING_FILES,
    WEIGHTS_SUFFIXES,
    closest_path,
    explain_no_model,
    is_model_path,
    name_model,
)
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.types.model import Uncertainty
from conftest import write_classes, write_image


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with images and a run."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_image(Path(f"holiday/{number}.png"), "red", number)
    Path("run/figures").mkdir(parents=True)
    shutil.copy(tiny_model, "run/model.onnx")
    write_image(Path("run/figures/confusion.png"), "red", 1)
    return tmp_path


def cut(folder: Path, name: str = "train.log") -> Path:
    """A run folder as a training leaves it that was cut off."""
    write_image(folder / "figures/1.png", "red", 1)
    (folder / "config.toml").touch()
    (folder / name).touch()
    return folder


def refusal(*paths: Path | str, model: Path | None = None) -> str:
    with pytest.raises(UsageError) as raised:
        choose_model([Path(path) for path in paths], model=model)
    return str(raised.value)


def words(message: str) -> set[str]:
    """Return the words and paths of a message, without the punctuation after them."""
    return {word.rstrip(".,:?") for word in message.split()}


@pytest.mark.usefixtures("place")
def test_a_first_path_that_is_missing_is_no_image() -> None:
    assert {"runn", "run"} <= words(refusal("runn", "holiday"))
    assert {"holidays/1.png", "holiday"} <= words(refusal("holidays/1.png"))
    assert closest_path(Path("elsewhere")) is None
    assert "elsewhere" in words(refusal("elsewhere", "holiday"))
    Path("link").symlink_to("nowhere")
    assert "link" in words(refusal("link"))
    _, images = choose_model([Path("run"), Path("missing.png")])
    assert images == [Path("missing.png")]
    assert choose_model([STDIN])[1] == [STDIN]


@pytest.mark.usefixtures("place")
def test_a_model_is_first_or_named_and_never_an_image() -> None:
    shutil.copy("run/model.onnx", "renamed.bak")
    for model in ("run", "run/model.onnx", "renamed.bak"):
        assert is_model_path(Path(model))
        assert model in refusal("holiday", model)
        assert model in refusal(model, "holiday", model=Path("run"))
        chosen, images = choose_model([Path(model), Path("holiday")])
        named, same = choose_model([Path("holiday")], model=Path(model))
        assert chosen.sha256 == named.sha256 == load_model("run").sha256
        assert images == same == [Path("holiday")]
    assert choose_model([Path("holiday")])[0].sha256 == load_model().sha256


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("left", TRAINING_FILES)
def test_a_run_that_was_cut_off_is_neither_model_nor_images(left: str) -> None:
    cut(Path("cut.partial"), left)
    for message in (refusal("cut.partial", "holiday"), refusal("holiday", "cut.partial"), refusal("cut", "holiday")):
        assert {"cut.partial", "model.onnx", "resume"} <= words(message.lower())
    for path in ("cut", "cut.partial"):
        with pytest.raises(InvalidModelError):
            load_model(path)


@pytest.mark.usefixtures("place")
def test_results_without_a_model_are_no_images() -> None:
    write_image(Path("results/figures/1.png"), "red", 1)
    Path("results/metrics.json").touch()
    assert explain_no_model("results") == ""  # anybody's folder
    Path("results", MARKER_FILE).touch()
    assert refusal("results", "holiday") == explain_no_model("results")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("suffix", sorted(WEIGHTS_SUFFIXES))
def test_weights_are_no_model(suffix: str) -> None:
    weights = Path(f"run/weights{suffix.upper()}")
    weights.write_bytes(b"\0" * 16)
    for message in (refusal(weights, "holiday"), refusal("holiday", weights)):
        assert {str(weights), "run/model.onnx"} <= words(message)
    with pytest.raises(InvalidModelError, match=r"run/model\.onnx"):
        load_model(weights)


@pytest.mark.usefixtures("place")
def test_every_use_of_images_refuses_a_model(tmp_path: Path) -> None:
    model = load_model("run")
    with pytest.raises(UsageError, match=r"^run "):
        model.predict(["holiday", "run"])
    with pytest.raises(UsageError, match=r"^run "):
        export("run", tmp_path / "out.onnx", "float16-weights", calibration_data="run")
    write_classes(Path("photos"), 2)
    model._card = replace(model.card, uncertainty=Uncertainty(ood_score_quantiles=(0.0, 1.0)))
    with pytest.raises(UsageError, match=r"^run "):
        evaluate(model, load_dataset("photos"), ood="run")


@pytest.mark.usefixtures("place")
def test_the_nearest_name_is_found_however_many_there_are() -> None:
    assert closest_path(Path("runs")) == Path("run")
    assert closest_path(Path("no/such/place")) is None


def test_outputs_name_the_model_without_its_path(place: Path) -> None:
    assert name_model("run/model.onnx") == name_model(place / "run" / "model.onnx") == "run/model.onnx"
    assert name_model(BUNDLED) == "scenes.onnx (bundled model)"
    identity = load_model().identity
    sha256 = load_model().sha256
    assert (identity.sha256, str(identity)) == (sha256, f"{identity.name}, sha256 {sha256[:12]}")


def test_every_output_names_the_model(place: Path, opened: Model) -> None:
    for form in ("csv", "jsonl", "json", "parquet"):
        predict_files(load_model("run"), [Path("holiday")], form, out=place / f"out.{form}")
    short = opened.sha256[:12]
    rows = (place / "out.csv").read_text().splitlines()
    assert rows[0].endswith(",model")
    assert all(row.endswith(f",{short}") for row in rows[1:])
    assert {json.loads(line)["model"] for line in (place / "out.jsonl").read_text().splitlines()} == {short}
    expected = {"name": "run/model.onnx", "sha256": opened.sha256}
    assert json.loads((place / "out.json").read_text())["model"] == expected
    metadata = pq.read_schema(place / "out.parquet").metadata
    assert {key: metadata[f"belvedere.model.{key}".encode()].decode() for key in expected} == expected
    write_classes(Path("photos"), 2)
    evaluate("run", "photos", out=place / "measured")
    assert json.loads((place / "measured/metrics.json").read_text())["model"] == expected
    assert f"run/model.onnx, SHA-256 {opened.sha256}" in (place / "measured/report.html").read_text()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "arguments", [("run", "holiday"), ("--model", "run", "holiday"), ("holiday", "--model", "run")]
)
def test_predict_says_on_stderr_which_model_it_is(arguments: tuple[str, ...], opened: Model) -> None:
    command = [sys.executable, "-m", "belvedere", "predict", *arguments, "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Model: run/model.onnx, sha256 {opened.sha256[:12]}" in done.stderr.splitlines()
    assert len(done.stdout.splitlines()) == 4
