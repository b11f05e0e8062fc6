"""The main job: a folder in, a run folder out."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.errors import DatasetError, FolderExists, TrainingError, UnknownName, UsageError
from belvedere.progress import Progress, Task
from belvedere.records import Preprocess
from belvedere.training.pixels import read_pixels
from belvedere.training.run import Run, train

RUN_FILES = {
    "model.onnx",
    "weights.safetensors",
    "metrics.json",
    "history.csv",
    "predictions.csv",
    "config.toml",
    "report.html",
    "train.log",
    "figures",
    ".belvedere",
}
METRICS = {
    *("accuracy", "macro_f1", "log_loss", "ece", "classes", "per_class", "confusion", "images", "seconds_total"),
    *("seconds_train", "epochs", "device", "recipe", "seed", "versions"),
}


def draw_colours(folder: Path, count: int, *, colours: dict[str, tuple[int, int, int]]) -> None:
    """Pictures that only their colour tells apart, the same in any order of rows and columns."""
    random = np.random.default_rng(len(str(folder.name)))
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise = random.integers(-40, 40, (40, 40, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            suffix = ("jpg", "png")[index % 2]
            Image.fromarray(pixels).save(folder / name / f"{index}.{suffix}")


RED, BLUE = (200, 60, 40), (40, 60, 200)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    draw_colours(folder / "train", 40, colours={"blue": BLUE, "red": RED})
    draw_colours(folder / "test", 6, colours={"blue": BLUE, "red": RED})
    (folder / "train" / "red" / "broken.jpg").write_bytes((folder / "train/red/0.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(photographs, out=tmp_path_factory.mktemp("runs") / "run", epochs=6)


def test_the_run_folder_is_whole(run: Run, photographs: Path) -> None:
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES
    assert not list(run.folder.parent.glob("*.partial"))
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert set(metrics) >= METRICS
    assert metrics["part"] == "test"
    assert metrics["images"] == 12
    assert metrics["epochs"] == 6
    with (run.folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4", "5", "6"]
    best = max(history, key=lambda row: (float(row["validation_accuracy"]), -float(row["validation_loss"])))
    assert metrics["best_epoch"] == int(best["epoch"])
    config = tomllib.loads((run.folder / "config.toml").read_text())
    assert config["recipe"]["network"] == "article"
    assert config["run"]["photographs"] == str(photographs)
    log = (run.folder / "train.log").read_text()
    assert "broken.jpg" in log
    assert "broken.jpg" in (run.folder / "report.html").read_text()


def test_the_model_knows_where_it_comes_from(run: Run) -> None:
    card = run.load().card
    assert card.class_names == ("blue", "red")
    assert sum(layer.parameters for layer in card.layers) == 135_942 - 4 * 65
    assert card.provenance.photographs == {"train": 72, "validation": 8, "test": 12}
    assert 0 <= card.provenance.parity < 1e-4
    assert card.provenance.versions["torch"]


def test_reading_is_the_same_in_training_and_in_use(run: Run, photographs: Path, tmp_path: Path) -> None:
    """The article trained on BGR and predicted on RGB: here swapping red and blue must change the answer."""
    assert run.metrics["accuracy"] == 1.0
    model = run.load()
    for file in sorted((photographs / "test" / "red").iterdir()):
        with Image.open(file) as image:
            swapped = np.asarray(image)[:, :, ::-1]
        Image.fromarray(swapped).save(tmp_path / f"{file.stem}.png")
        [original] = model.predict(file)
        [other] = model.predict(tmp_path / f"{file.stem}.png")
        assert (original.prediction, other.prediction) == ("red", "blue")


def test_what_training_saw_is_what_the_model_is_given(photographs: Path, tmp_path: Path) -> None:
    """Byte for byte: the pixels of training are those that a prediction reads."""
    from belvedere.dataset import read_folder
    from belvedere.images import read_input
    from belvedere.training.networks import find_network

    preprocess = find_network("article").preprocess
    samples = read_folder(photographs).part("test")
    pixels = read_pixels(samples, preprocess, tmp_path / "pixels", Progress())
    rows = pixels.images[np.arange(len(samples))[::-1]]
    for row, sample in zip(rows[::-1], pixels.samples, strict=True):
        assert np.array_equal(row, read_input(sample.path, preprocess).pixels)


def test_the_same_seed_gives_the_same_model(run: Run, photographs: Path, tmp_path: Path) -> None:
    again = train(photographs, out=tmp_path / "again", epochs=6)
    assert (again.folder / "weights.safetensors").read_bytes() == (run.folder / "weights.safetensors").read_bytes()


def test_an_existing_folder_is_refused_and_named_with_the_ways_out(run: Run, photographs: Path) -> None:
    before = (run.folder / "model.onnx").read_bytes()
    with pytest.raises(FolderExists, match="--overwrite"):
        train(photographs, out=run.folder, epochs=1)
    with pytest.raises(FolderExists, match="never replaced"):
        train(photographs, out=photographs, epochs=1, overwrite=True)
    assert (run.folder / "model.onnx").read_bytes() == before
    assert len(list((photographs / "train" / "red").iterdir())) == 41


def test_class_folders_alone_are_divided_and_say_so(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photographs", 20, colours={"blue": BLUE, "red": RED})
    run = train(tmp_path / "photographs", out=tmp_path / "run", epochs=1)
    assert run.load().card.provenance.photographs == {"train": 30, "validation": 4, "test": 6}
    report = (run.folder / "report.html").read_text()
    assert "6 photographs kept back to report on" in report
    assert "4 photographs kept back to choose the epoch by" in report


class Interrupts(Progress):
    def __init__(self, at: str) -> None:
        self.at = at

    def say(self, message: str) -> None:
        if message.startswith(self.at):
            raise KeyboardInterrupt


def test_control_c_leaves_a_usable_run(photographs: Path, tmp_path: Path) -> None:
    run = train(photographs, out=tmp_path / "run", epochs=30, progress=Interrupts("epoch   1"))
    assert run.metrics["interrupted"] is True
    assert run.metrics["epochs"] == 1
    assert len(run.load().predict(photographs / "test")) == 12
    assert "Training was interrupted after 1 epoch" in (run.folder / "report.html").read_text()


class InterruptsFirstBatch(Progress):
    @contextmanager
    def task(self, description: str, images: int) -> Iterator[Task]:
        class Raises(Task):
            def advance(self, images: int, figures: str = "") -> None:
                if figures:  # only training shows figures
                    raise KeyboardInterrupt

        yield Raises()


def test_ended_before_the_first_epoch_leaves_nothing(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="before its first epoch"):
        train(photographs, out=tmp_path / "run", epochs=30, progress=InterruptsFirstBatch())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_control_c_while_the_results_are_written_is_heard_and_the_run_is_whole(
    photographs: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    class Presses(Progress):
        def say(self, message: str) -> None:
            said.append(message)
            if message.startswith("The model file's answers"):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = train(photographs, out=tmp_path / "run", epochs=1, progress=Presses())
    assert any("Ctrl-C again" in message for message in said)
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES
    assert signal.getsignal(signal.SIGINT) is before


class FailsToEvaluate(Progress):
    @contextmanager
    def task(self, description: str, images: int) -> Iterator[Task]:
        if description == "Evaluating":
            raise OSError(28, "No space left on device")
        yield Task()


def test_a_failure_after_training_says_where_the_model_is(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No space left") as caught:
        train(photographs, out=tmp_path / "run", epochs=1, progress=FailsToEvaluate())
    assert (tmp_path / "run.partial" / "model.onnx").is_file()
    assert "run.partial" in str(caught.value)


def test_an_unreadable_test_part_is_refused_before_the_work(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    for file in (folder / "test").rglob("*.*"):
        file.write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="None of the 12 test photographs can be read"):
        train(folder, out=tmp_path / "run", epochs=1000)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_signal_to_the_real_process_ends_it_in_order(photographs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "train", str(photographs), "--epochs", "1000"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch   2"):
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert (tmp_path / "run" / "model.onnx").is_file()
    assert "ended early" in rest.lower()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_killed_training_leaves_its_history_and_is_named(photographs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "train", str(photographs), "--epochs", "1000"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    history = tmp_path / "run.partial" / "history.csv"
    give_up = time.monotonic() + 60
    while not history.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(history.read_text().splitlines()) >= 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(FolderExists, match=r"cut off"):
        train(photographs, out=tmp_path / "run", epochs=1)


def test_wrong_arguments_are_refused_before_any_work(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'article'"):
        train(photographs, out=tmp_path / "run", recipe="artikel")
    with pytest.raises(UsageError, match="at least 1"):
        train(photographs, out=tmp_path / "run", epochs=0)
    with pytest.raises(UsageError, match="from 0 to"):
        train(photographs, out=tmp_path / "run", seed=10**30)
    with pytest.raises(UsageError, match="auto, cpu or cuda"):
        train(photographs, out=tmp_path / "run", device="tpu")
    with pytest.raises(DatasetError, match="no folder or table"):
        train(tmp_path / "nowhere", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_a_readable_photograph_is_an_error(tmp_path: Path) -> None:
    draw_colours(tmp_path / "photographs", 8, colours={"blue": BLUE, "red": RED})
    for file in (tmp_path / "photographs" / "red").iterdir():
        file.write_bytes(b"not a picture")
    with pytest.raises(TrainingError, match="'red' can be read"):
        train(tmp_path / "photographs", out=tmp_path / "run")
    assert not (tmp_path / "run.partial").exists()


def test_the_public_face_trains_too(photographs: Path) -> None:
    assert belvedere.train is train
    assert belvedere.read_folder(photographs).class_names == ("blue", "red")


def test_pixels_that_were_cut_short_are_no_pixels(photographs: Path, tmp_path: Path) -> None:
    samples = belvedere.read_folder(photographs).part("test")
    pixels = read_pixels(samples, Preprocess(20, 20), tmp_path / "pixels", Progress())
    (tmp_path / "pixels").write_bytes((tmp_path / "pixels").read_bytes()[:-1])
    assert pixels.images[np.arange(3)].shape == (3, 20, 20, 3)
    with pytest.raises(TrainingError, match="cut short"):
        _ = pixels.images[np.array([len(samples) - 1])]
