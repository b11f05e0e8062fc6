"""What a command that writes a file must not replace: what it reads, and what Belvedere did not write."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from belvedere.errors import OutputExistsError, UsageError
from belvedere.evaluation.evaluate import evaluate
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model, load_model
from belvedere.inference.writers.detect import is_contact_sheet, is_predictions_file
from belvedere.runtime.output_file import OutputFile
from conftest import sheets, write_classes

FORMS = ("csv", "jsonl", "json", "parquet")
FOREIGN = {
    "csv": ("image,label\n1.jpg,sea\n", "image,answer,prediction,confidence,red\n", '"', "\0", "x" * 200_000),
    "jsonl": ('{"mine": 1}\n', '{"image": "1.jpg", "predicted_label": "red"}\n', "[1]\n", "text", "[" * 200_000),
    "json": ('{"mine": 1}', '{"class_names": ["red"]}\n', '{"predictions": [\n', "[1, 2]", "{"),
    "parquet": ("PAR1", "text"),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "photos", 2)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Model:
    return load_model(shutil.copy(tiny_model, tmp_path / "model.onnx"))


@pytest.mark.parametrize("form", FORMS)
def test_older_predictions_are_replaced_and_other_files_only_with_overwrite(
    form: str, model: Model, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"answers.{form}"
    for content in FOREIGN[form]:
        out.write_text(content)
        with pytest.raises(OutputExistsError):
            predict_files(model, [photos], form, out=out)
        assert out.read_text() == content
        assert not out.with_name(f"{out.name}.partial").exists()
    predict_files(model, [photos], form, out=out, overwrite=True)
    assert is_predictions_file(out, form)
    assert [other for other in FORMS if is_predictions_file(out, other)] == [form]
    predict_files(model, [photos / "red"], form, out=out)
    assert is_predictions_file(out, form)


def test_empty_file_is_replaced(model: Model, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").touch()
    assert predict_files(model, [photos], "csv", out=tmp_path / "new.csv").num_images == 6


def test_other_files_of_belvedere_are_no_older_predictions(model: Model, photos: Path, tmp_path: Path) -> None:
    evaluate(model, photos, out=tmp_path / "run")
    files = (("predictions.csv", "csv"), ("metrics.json", "json"))
    figure = next((tmp_path / "run").rglob("*.png"))
    for kept, form in (*((tmp_path / "run" / name, form) for name, form in files), (figure, "sheet")):
        before = kept.read_bytes()
        out, sheet = (None, kept) if kept == figure else (kept, None)
        with pytest.raises(OutputExistsError):
            predict_files(model, [photos], "csv" if out is None else form, out=out, sinks=sheets(sheet))
        assert kept.read_bytes() == before


def test_older_contact_sheet_is_replaced_and_another_image_only_with_overwrite(
    model: Model, photos: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    Image.new("RGB", (8, 8)).save(sheet)
    with pytest.raises(OutputExistsError):
        predict_files(model, [photos], "csv", out=tmp_path / "a.csv", sinks=sheets(sheet))
    assert not (tmp_path / "a.csv").exists()
    predict_files(model, [photos], "csv", out=tmp_path / "a.csv", sinks=sheets(sheet, overwrite=True), overwrite=True)
    assert is_contact_sheet(sheet)
    predict_files(model, [photos / "red"], "csv", out=tmp_path / "a.csv", sinks=sheets(sheet))


@pytest.mark.parametrize("option", ["out", "sheet"])
@pytest.mark.parametrize("make", [None, os.link, os.symlink], ids=["itself", "hard link", "link"])
@pytest.mark.parametrize("read", ["model.onnx", "photos/red/0.png", "names.txt"])
def test_inputs_are_never_replaced(
    option: str, make: Callable[[Path, Path], None] | None, read: str, model: Model, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text(str(photos / "red/0.png"))
    place = tmp_path / read
    before = place.read_bytes()
    if make is not None:
        make(place, tmp_path / "other name")
        place = tmp_path / "other name"
    with (tmp_path / "names.txt").open("rb") as names:
        for overwrite in (False, True):
            with pytest.raises(OutputExistsError) as caught:
                out, sheet = (place, None) if option == "out" else (None, place)
                predict_files(
                    model,
                    [photos],
                    "csv",
                    out=out,
                    sinks=sheets(sheet, overwrite=overwrite),
                    overwrite=overwrite,
                    inputs=[names.fileno()],
                )
            assert (caught.value.path, caught.value.can_overwrite) == (place, False)
    assert place.read_bytes() == before


def test_outputs_must_differ(model: Model, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        predict_files(model, [photos], "csv", out=tmp_path / "x.png", sinks=sheets(tmp_path / "link/x.png"))


@pytest.mark.parametrize("form", FORMS)
def test_file_created_meanwhile_is_not_replaced(form: str, model: Model, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / f"answers.{form}"

    def images() -> Iterator[Path]:
        yield photos / "red/0.png"
        out.write_text("mine")

    with pytest.raises(UsageError) as raised:
        predict_files(model, images(), form, out=out)
    assert out.read_text() == "mine"
    said = f"{raised.value} {getattr(raised.value, '__notes__', '')}"
    if form == "json":
        assert is_predictions_file(tmp_path / "answers-2.json", "json")
        assert "answers-2.json" in said
    else:
        out.unlink()
        assert "resume" in said
        assert predict_files(model, [photos / "red/0.png"], form, out=out, resume=True).num_images == 1


def test_a_loop_of_links_is_refused_before_the_work(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(UsageError):
        OutputFile(loop, overwrite=True)


def test_links_to_files_to_be_made_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new.txt")
    OutputFile(tmp_path / "link", overwrite=False).check()


@pytest.mark.parametrize("out", ["out.csv", "loop"])
@pytest.mark.parametrize("sheet", ["sheet.png", "loop"])
def test_outputs_that_are_loops_of_links_are_refused(
    out: str, sheet: str, model: Model, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    expected = pytest.raises(UsageError) if "loop" in (out, sheet) else nullcontext()
    with expected:
        predict_files(model, [photos], "csv", out=tmp_path / out, sinks=sheets(tmp_path / sheet))
    assert (tmp_path / "loop").is_symlink()


def test_model_created_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out, read = tmp_path / "out", tmp_path / "read"
    read.write_text("mine")
    file = OutputFile(out, overwrite=True, inputs=lambda: [read])
    file.check()
    out.hardlink_to(read)
    with pytest.raises(OutputExistsError) as caught:
        file.check()
    assert (caught.value.path, caught.value.can_overwrite) == (out, False)
