"""The folder of the format page."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import belvedere
from belvedere.errors import OutputExistsError, UsageError
from belvedere.inference.model import load_model
from belvedere.inference.model_paths import BUNDLED
from page_export import runtime_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with runtime_package(tmp_path_factory.mktemp("package")) as path:
        yield path


def test_the_folder_is_complete_and_names_no_server(tiny_model: Path, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    result = belvedere.export(tiny_model, out, "page", runtime=package)
    assert result.comparison is None
    assert result.size_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert (out / "model.onnx").read_bytes() == tiny_model.read_bytes()
    assert load_model(out).class_names == load_model(tiny_model).class_names
    index = (out / "index.html").read_text()
    assert "<!--" not in index
    assert "server" not in index
    static = static_folder(out)
    manifest = json.loads((static / "manifest.webmanifest").read_text())
    used = {out / name for name in re.findall(r'(?:href|src)="([^"]+)"', index)}
    used |= {static / icon["src"] for icon in manifest["icons"]}
    for script in static.glob("*.js"):
        if script.name != "onnxruntime-web.js":
            used |= {
                static / name for name in re.findall(r'(?:from "\./|URL\("|request\(")([^"]+)"', script.read_text())
            }
    assert {path for path in used if not path.is_file()} == set()
    assert {path.suffix for path in used} >= {".js", ".css", ".json", ".png", ".svg", ".txt", ".wasm", ".webmanifest"}


def static_folder(out: Path) -> Path:
    [found] = out.glob("static-*")
    return found


def test_the_service_worker_has_the_hash_of_each_file(tiny_model: Path, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    belvedere.export(tiny_model, out, "page", runtime=package)
    listed = re.search("const FILES = (.*);", (out / "service_worker.js").read_text())
    assert listed is not None
    paths = [path for path in out.rglob("*") if path.is_file() and path.name not in (".belvedere", "service_worker.js")]
    hashes = {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    hashes["./"] = hashes.pop("index.html")
    model_hash = hashes.pop("model.onnx")
    hashes[f"model.onnx?{model_hash}"] = model_hash
    assert json.loads(listed[1]) == hashes


def test_the_folder_of_the_scripts_is_named_after_all_contents(package: Path, tmp_path: Path) -> None:
    names = []
    for accept_rate in (0.9, 0.9, 0.8):
        model = load_model(BUNDLED, accept_rate=accept_rate)
        belvedere.export(model, tmp_path / "page", "page", runtime=package, overwrite=True)
        names.append(static_folder(tmp_path / "page").name)
    assert names[0] == names[1] != names[2]


def test_an_open_model_needs_no_file(tiny_model: Path, package: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(tiny_model.read_bytes())
    model = load_model(file)
    file.unlink()
    result = belvedere.export(model, tmp_path / "page", "page", runtime=package)
    assert (tmp_path / "page/model.onnx").read_bytes() == tiny_model.read_bytes()
    assert result.original_size_bytes == tiny_model.stat().st_size


@pytest.mark.parametrize(("given", "expected"), [(None, 0.95), (0.8, 0.8)])
def test_the_model_is_described_with_its_accept_rate(
    given: float | None, expected: float, package: Path, tmp_path: Path
) -> None:
    model = load_model(BUNDLED, accept_rate=given)
    belvedere.export(model, tmp_path / "page", "page", runtime=package)
    described = json.loads((static_folder(tmp_path / "page") / "model.json").read_text())
    assert described["sha256"] == model.sha256
    assert described["accept_rate"] == expected
    assert described["card"]["preprocess"] == asdict(model.card.preprocess)


def test_a_folder_is_replaced_only_when_asked(tiny_model: Path, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    belvedere.export(tiny_model, out, "page", runtime=package)
    with pytest.raises(OutputExistsError):
        belvedere.export(tiny_model, out, "page", runtime=package)
    (out / "index.html").unlink()
    belvedere.export(tiny_model, out, "page", runtime=package, overwrite=True)
    assert (out / "index.html").is_file()
    with pytest.raises(OutputExistsError):  # the model is read
        belvedere.export(out, out, "page", runtime=package, overwrite=True)
    assert (out / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"format": "page", "tta": False}, "tta"),
        ({"format": "page", "calibration_data": "images"}, "calibration_data"),
        ({"format": "page", "license": "mit"}, "license"),
        ({"format": "nchw", "calibration_data": "images"}, "runtime"),
        ({"format": "page", "runtime": "nowhere.tgz"}, "nowhere.tgz"),
    ],
)
def test_arguments_of_other_formats_are_refused(
    tiny_model: Path, package: Path, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        belvedere.export(tiny_model, tmp_path / "page", **{"runtime": package} | options)
    assert list(tmp_path.iterdir()) == []
