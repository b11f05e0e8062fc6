"""Shell and Python blocks of the documentation run, in the order of their page, or say why they do not.

Without the environment variable BELVEDERE_ALL_DOCS, those of the first pages run, and those of the others are checked.
"""

import csv
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

import belvedere
from belvedere.data.corrections.corrections_file import CorrectionsFile, utc_now
from belvedere.data.hashing import hash_file
from belvedere.runtime.progress import Progress
from belvedere.training import pretrained_weights
from belvedere.training.recipes import RECIPES
from belvedere.types.data import Decision
from command_line import belvedere as command
from conftest import new_id
from documentation import IMAGES_PER_CLASS, ROOT, Block, Reader, check_command, is_run, read_blocks, write_images

TESTED_ELSEWHERE = {"plugins.md": "test_plugins", "python.md": "test_docs", "serving.md": "test_docs_serving"}
ALL_PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [
    page for page in ALL_PAGES if page.name != "api.md" and page.name not in TESTED_ELSEWHERE and read_blocks(page)
]
FIRST_PAGES = {"README.md", "quickstart.md", "tutorial.md"}  # the others take ten minutes
RUN_PAGES = [page for page in PAGES if page.name in FIRST_PAGES or "BELVEDERE_ALL_DOCS" in os.environ]
FEW_IMAGES = 12  # per class
draw_scenes = partial(belvedere.make_synthetic_dataset, train_per_class=12, test_per_class=4)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Make what the pages name: images, tables of them, runs, an audit, corrections and other inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    write_images(folder / "images", IMAGES_PER_CLASS)
    for seed, name in enumerate(("more-images", "other-images", "arrows"), start=1):
        write_images(folder / name, FEW_IMAGES, seed)
    (folder / "holiday").mkdir()
    for number, path in enumerate(sorted((folder / "more-images").rglob("0[01].jpg"))):
        Image.open(path).save(folder / "holiday" / f"{number}.jpg")
    Image.open(path).save(folder / "photo.jpg")
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "patient"])
        for path in sorted((folder / "images").rglob("*.jpg")):
            table.writerow([path.relative_to(folder), path.parts[-3], path.parent.name])
    quick = ("--recipe", "quick", "--epochs", 1, "--set", "validation_fraction=0.45")
    for words in (
        ("train", "images", *quick, "--out", "run"),
        ("train", "images", *quick, "--out", "corrected", "--seed", 1),
        ("audit", "images", "--skip-label-issues", "--skip-near-duplicates"),
    ):
        done = command(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    draw_scenes(folder / "belvedere-demo" / "images", progress=False)
    shutil.copytree(folder / "run", folder / "belvedere-demo" / "run")
    for name in ("run", "audit"):
        _write_corrections(folder / f"{name}.corrections.jsonl", path)
    return {path.name: path for path in folder.iterdir()}


def _write_corrections(file: Path, image: Path) -> None:
    digest = hash_file(image)
    decision = Decision(new_id(), utc_now(), "Ana", digest, str(image), "relabel", image.parts[-3], ("green",))
    CorrectionsFile(file).append(decision)


@pytest.fixture
def reader(known: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Return a runner in a new folder; trainings take one epoch, and pretrained weights are random ones."""
    monkeypatch.chdir(tmp_path)
    for name, recipe in RECIPES._values.items():
        image_size = 64 if recipe.pretrained else recipe.image_size
        monkeypatch.setitem(
            RECIPES._values, name, replace(recipe, epochs=min(recipe.epochs, 1), min_steps=0, image_size=image_size)
        )
    monkeypatch.setattr(belvedere, "make_synthetic_dataset", draw_scenes)
    monkeypatch.setattr(pretrained_weights, "download_weights", _random_weights)
    return Reader(tmp_path, known)


def _random_weights(repository: str, progress: Progress, *, offline: bool = False) -> Path:  # noqa: ARG001
    path = Path(f"{repository.rpartition('/')[2]}.safetensors").absolute()
    save_file(timm.create_model(path.stem, pretrained=False).state_dict(), path)
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_their_options_and_python_compiles(page: Path) -> None:
    for block in read_blocks(page):
        if block.language == "python":
            compile(block.text, str(page), "exec")
        else:
            for words in block.commands():
                check_command(words)
                if block.reason is None:
                    is_run(words)  # or declared


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page: Path, reader: Reader) -> None:
    for block in read_blocks(page):
        if block.reason is None:
            reader.run(block)


@pytest.mark.parametrize("line", ["python benchmarks/predict.py", "cat predictions.csv", "belvedere networks none"])
def test_a_command_that_is_not_run_or_fails_is_an_error(line: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Reader(tmp_path, {}).run(Block(tmp_path / "page.md", "bash", line, None))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_is_in_fenced_blocks(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\n\n {4}.*", prose) == []
