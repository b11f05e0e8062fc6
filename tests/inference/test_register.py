"""Prediction formats of the user's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pytest

import belvedere
from belvedere.errors import BelvedereError, OutputExistsError, PluginError, UsageError
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model
from belvedere.inference.writers.register import register_writer
from belvedere.inference.writers.text import WRITERS
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction
from conftest import write_classes


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WRITERS, "_values", dict(WRITERS._values))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data", 1)


class Lines:
    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:
        self.file = file
        file.write(f"{model.short} {' '.join(class_names)}\n")

    def write(self, prediction: Prediction) -> None:
        self.file.write(f"{prediction.answer}\n")

    def close(self) -> None:
        self.file.write("end\n")


def test_a_format_is_a_suffix_and_a_value_of_format(
    opened: Model, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register_writer("lines")(Lines) is Lines
    expected = f"{opened.sha256[:12]} blue green red\nblue\ngreen\nred\nend\n"
    belvedere.predict(opened, data, out=tmp_path / "a.lines")
    assert (tmp_path / "a.lines").read_text() == expected
    predict_files(opened, [data], "lines")
    assert capsys.readouterr().out == expected
    with pytest.raises(OutputExistsError):  # a file of an unknown format may be anything
        belvedere.predict(opened, data, out=tmp_path / "a.lines")
    belvedere.predict(opened, data, out=tmp_path / "a.lines", overwrite=True)
    with pytest.raises(UsageError, match="`resume`"):
        belvedere.predict(opened, data, out=tmp_path / "b.lines", resume=True)


def test_a_binary_format_is_not_printed(opened: Model, data: Path, tmp_path: Path) -> None:
    @register_writer("bytes", binary=True)
    class Bytes:
        def __init__(self, file: BinaryIO, class_names: Sequence[str], model: ModelId) -> None:
            self.file = file

        def write(self, prediction: Prediction) -> None:
            self.file.write(bytes([255, len(str(prediction.answer))]))

        def close(self) -> None:
            self.file.write(b"\0")

    belvedere.predict(opened, data, out=tmp_path / "a.bytes")
    assert (tmp_path / "a.bytes").read_bytes() == b"\xff\x04\xff\x05\xff\x03\0"
    with pytest.raises(UsageError, match="`out`"):
        predict_files(opened, [data], "bytes")


def test_close_learns_why_the_predictions_ended(opened: Model, data: Path, tmp_path: Path) -> None:
    seen: list[str | None] = []

    @register_writer("kept")
    class Kept(Lines):
        def write(self, prediction: Prediction) -> None:
            if prediction.answer == "green":
                raise BelvedereError("green")

        def close(self, error: str | None = None) -> None:
            seen.append(error)

    with pytest.raises(BelvedereError, match="green"):
        belvedere.predict(opened, data, out=tmp_path / "a.kept")
    assert seen == ["green"]
    assert not (tmp_path / "a.kept").exists()


@pytest.mark.parametrize("method", ["__init__", "write", "close"])
def test_a_failure_is_one_line_and_leaves_no_file(method: str, opened: Model, data: Path, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("two\nlines")

    register_writer("failing")(type("Failing", (Lines,), {method: fail}))
    with pytest.raises(PluginError, match="'failing'") as raised:
        belvedere.predict(opened, data, out=tmp_path / "a.failing")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_object_without_the_methods_is_refused(opened: Model, data: Path, tmp_path: Path) -> None:
    register_writer("none")(lambda *_: [])
    with pytest.raises(UsageError, match="`write`"):
        belvedere.predict(opened, data, out=tmp_path / "a.none")


@pytest.mark.parametrize("name", ["csv", "parquet", "CSV", "a.b", "", "a b", None])
def test_impossible_names_are_refused(name: Any) -> None:
    with pytest.raises(UsageError):
        register_writer(name)(Lines)
