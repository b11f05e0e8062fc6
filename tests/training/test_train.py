"""The main job: a folder in, a run folder out."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import belvedere
from belvedere.cli.progress import StageProgress
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import hash_samples
from belvedere.data.image_cache import read_image_array
from belvedere.errors import DatasetError, OutputExistsError, TrainingError, UnknownNameError, UsageError
from belvedere.runtime.files import TEMPORARY_NAME
from belvedere.runtime.output_folder import MARKER_FILE, partial_path
from belvedere.runtime.progress import Progress, Task
from belvedere.training import loop
from belvedere.training.run import Run
from belvedere.training.run_folder import CHECKPOINT
from belvedere.training.train import train

RUN_FILES = {
    "model.onnx",
    "weights.safetensors",
    "metrics.json",
    "history.csv",
    "predictions.csv",
    "splits.csv",
    "config.toml",
    "report.html",
    "train.log",
    "figures",
    ".belvedere",
}
METRICS = {
    *("accuracy", "macro_f1", "log_loss", "ece", "class_names", "per_class", "confusion_matrix", "num_images"),
    *("total_seconds", "training_seconds", "epochs", "device", "recipe", "seed", "versions"),
}


def draw_images(folder: Path, count: int, *, colors: dict[str, tuple[int, int, int]]) -> None:
    """Images that differ only in color, the same in any order of rows and columns."""
    random = np.random.default_rng(len(str(folder.name)))
    for name, color in colors.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise = random.integers(-40, 40, (40, 40, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            suffix = ("jpg", "png")[index % 2]
            Image.fromarray(pixels).save(folder / name / f"{index}.{suffix}")


RED, BLUE = (200, 60, 40), (40, 60, 200)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder / "train", 40, colors={"blue": BLUE, "red": RED})
    draw_images(folder / "test", 6, colors={"blue": BLUE, "red": RED})
    (folder / "train" / "red" / "broken.jpg").write_bytes((folder / "train/red/0.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(data, out=tmp_path_factory.mktemp("runs") / "run", recipe="article", epochs=6)


def test_run_folder_is_complete(run: Run, data: Path) -> None:
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES
    assert not list(run.folder.parent.glob("*.partial"))
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert set(metrics) >= METRICS
    assert metrics["split"] == "test"
    assert metrics["num_images"] == 12
    assert metrics["epochs"] == 6
    with (run.folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2", "3", "4", "5", "6"]
    best = max(history, key=lambda row: (float(row["validation_accuracy"]), -float(row["validation_loss"])))
    assert metrics["best_epoch"] == int(best["epoch"])
    config = tomllib.loads((run.folder / "config.toml").read_text())
    assert config["recipe"]["network"] == "article"
    assert config["run"]["data"] == str(data)
    log = (run.folder / "train.log").read_text()
    assert "broken.jpg" in log
    assert "broken.jpg" in (run.folder / "report.html").read_text()


def test_provenance_of_the_model(run: Run) -> None:
    card = run.load().card
    assert card.class_names == ("blue", "red")
    assert sum(layer.parameters for layer in card.layers) == 135_942 - 4 * 65
    assert card.provenance.num_images == {"train": 72, "validation": 8, "test": 12}
    assert 0 <= card.provenance.onnx_max_relative_error < 1e-4
    assert card.provenance.versions["torch"]


def test_preprocessing_is_the_same_in_training_and_prediction(run: Run, data: Path, tmp_path: Path) -> None:
    """The article trained on BGR and predicted on RGB: here swapping red and blue must change the prediction."""
    assert run.metrics["accuracy"] == 1.0
    model = run.load()
    for file in sorted((data / "test" / "red").iterdir()):
        with Image.open(file) as image:
            swapped = np.asarray(image)[:, :, ::-1]
        Image.fromarray(swapped).save(tmp_path / f"{file.stem}.png")
        [original] = model.predict(file)
        [other] = model.predict(tmp_path / f"{file.stem}.png")
        assert (original.predicted_label, other.predicted_label) == ("red", "blue")


def test_training_pixels_equal_prediction_pixels(data: Path) -> None:
    """Byte for byte."""
    from belvedere.data.dataset import load_dataset
    from belvedere.images.decode import read_input
    from belvedere.training.networks import find_network

    preprocess = find_network("article").preprocess
    contents = hash_samples(load_dataset(data).split("test"), Progress())
    pixels = read_image_array(contents, preprocess, Progress())
    rows = pixels.images[np.arange(len(contents.samples))[::-1]]
    assert len(rows) == 12
    for row, sample in zip(rows[::-1], pixels.samples, strict=True):
        assert np.array_equal(row, read_input(sample.path, preprocess).pixels)


def test_the_same_seed_gives_the_same_model(run: Run, data: Path, tmp_path: Path) -> None:
    again = train(data, out=tmp_path / "again", recipe="article", epochs=6)
    assert (again.folder / "weights.safetensors").read_bytes() == (run.folder / "weights.safetensors").read_bytes()


def test_existing_folder_raises(run: Run, data: Path) -> None:
    before = (run.folder / "model.onnx").read_bytes()
    with pytest.raises(OutputExistsError) as caught:
        train(data, out=run.folder, epochs=1)
    assert (caught.value.path, caught.value.can_overwrite) == (run.folder, True)
    with pytest.raises(OutputExistsError) as caught:
        train(data, out=data, epochs=1, overwrite=True)
    assert (caught.value.path, caught.value.can_overwrite) == (data, False)
    assert (run.folder / "model.onnx").read_bytes() == before
    assert len(list((data / "train" / "red").iterdir())) == 41


@pytest.mark.parametrize("resume", [False, True])
def test_a_loop_of_links_is_refused(resume: bool, data: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        train(data, out=tmp_path / "loop", epochs=1, resume=resume)


def test_class_folders_without_splits_are_split(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 20, colors={"blue": BLUE, "red": RED})
    run = train(tmp_path / "images", out=tmp_path / "run", recipe="article", epochs=1)
    assert run.load().card.provenance.num_images == {"train": 30, "validation": 4, "test": 6}
    report = (run.folder / "report.html").read_text()
    assert "6 images held out for testing" in report
    assert "4 images held out for validation" in report


class Interrupts(Progress):
    def __init__(self, at: str) -> None:
        self.at = at

    def log(self, message: str) -> None:
        if message.startswith(self.at):
            raise KeyboardInterrupt


def test_control_c_leaves_a_usable_run(data: Path, tmp_path: Path) -> None:
    run = train(data, out=tmp_path / "run", recipe="article", epochs=30, progress=Interrupts("epoch  1/"))
    assert run.metrics["interrupted"] is True
    assert run.metrics["epochs"] == 1
    assert len(run.load().predict(data / "test")) == 12
    assert "Training was interrupted after 1 epoch" in (run.folder / "report.html").read_text()


class InterruptsFirstBatch(Progress):
    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        class Raises(Task):
            def advance(self, images: int, figures: str = "") -> None:
                if description == "Training" and images:
                    raise KeyboardInterrupt

        yield Raises()


def test_interruption_before_the_first_epoch_leaves_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as ended:
        train(data, out=tmp_path / "run", recipe="article", epochs=30, progress=InterruptsFirstBatch())
    assert ended.value.__notes__ == [
        "Training was interrupted before its first epoch was completed: there is no model to keep."
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_one_control_c_does_not_stop_writing_the_results(data: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Presses(StageProgress):
        def log(self, message: str) -> None:
            said.append(message)
            if message.startswith("Exported"):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = train(data, out=tmp_path / "run", recipe="article", epochs=1, progress=Presses())
    assert any("Ctrl-C again" in message for message in said)
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES
    assert signal.getsignal(signal.SIGINT) is before


class FailsToEvaluate(Progress):
    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        if description == "Evaluating":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield Task()


def test_failure_after_training_names_the_model(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=os.strerror(errno.ENOSPC)) as caught:
        train(data, out=tmp_path / "run", recipe="article", epochs=1, progress=FailsToEvaluate())
    assert (tmp_path / "run.partial" / "model.onnx").is_file()
    assert "run.partial" in str(caught.value)


def test_unreadable_test_split_raises_before_training(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(data, folder)
    for file in (folder / "test").rglob("*.*"):
        file.write_bytes(b"not an image")
    with pytest.raises(DatasetError, match=r"\b12\b"):
        train(folder, out=tmp_path / "run", epochs=1000)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_signal_ends_the_process_with_a_usable_run(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "train", str(data), "--recipe", "article", "--epochs", "1000"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch    2/1000"):
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=600)
    assert process.returncode == 0, rest
    assert (tmp_path / "run" / "model.onnx").is_file()
    assert "Interrupted: keeping epoch" in rest


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_killed_training_leaves_its_history(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "train", str(data), "--recipe", "article", "--epochs", "1000"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    partial = tmp_path / "run.partial"
    while process.poll() is None and not (partial / CHECKPOINT).exists():
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = len((partial / "history.csv").read_text().splitlines())
    assert before >= 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(OutputExistsError):
        train(data, out=tmp_path / "run", recipe="article", epochs=1000)
    progress = Interrupts("epoch")
    run = train(data, out=tmp_path / "run", recipe="article", epochs=1000, resume=True, progress=progress)
    with (run.folder / "history.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) in (before - 1, before)  # killed between the two, the checkpoint is one behind the history
    assert run.metrics["epochs"] == len(epochs)
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES


def test_invalid_arguments_raise_before_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        train(data, out=tmp_path / "run", recipe="artikel")
    assert (caught.value.kind, caught.value.name, caught.value.suggestion) == ("recipe", "artikel", "article")
    with pytest.raises(UsageError, match="epochs"):
        train(data, out=tmp_path / "run", epochs=0)
    (tmp_path / "own.toml").write_text('[recipe]\nnetwork = "article"\n')
    with pytest.raises(UsageError, match=r"'article'.* 150 x 150 .*image_size_schedule"):
        train(data, out=tmp_path / "run", recipe="quick", config=tmp_path / "own.toml")
    with pytest.raises(UsageError, match=f"{10**30}"):
        train(data, out=tmp_path / "run", seed=10**30)
    with pytest.raises(UsageError, match=r"'tpu'.* cuda"):
        train(data, out=tmp_path / "run", device="tpu")
    with pytest.raises(DatasetError, match="nowhere"):
        train(tmp_path / "nowhere", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == [tmp_path / "own.toml"]


def test_class_without_a_readable_image_raises(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 8, colors={"blue": BLUE, "red": RED})
    for file in (tmp_path / "images" / "red").iterdir():
        file.write_bytes(b"not an image")
    with pytest.raises(TrainingError, match="'red'"):
        train(tmp_path / "images", out=tmp_path / "run")
    assert not (tmp_path / "run.partial").exists()


def test_public_api_trains(data: Path) -> None:
    assert belvedere.train is train
    assert belvedere.load_dataset(data).class_names == ("blue", "red")


# Going on where a training was cut off. All that a recipe can have is on: whatever state is forgotten shows.

OWN = """
[recipe]
name = "own"
epochs = 4
min_steps = 0
batch_size = 8
image_size_schedule = [[0, 16], [1, 32]]
cached_image_size = 40
learning_rate_schedule = [[0, 0.1], [0.3, 1], [1, 0]]
weight_decay = 0.01
color_jitter = 0.2
cutout_prob = 0.2
mixup_prob = 0.3
cutmix_prob = 0.3
ema_decay = 0.9
ema_start = 0.2
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    draw_images(folder / "train", 14, colors={"blue": BLUE, "red": RED})
    draw_images(folder / "test", 2, colors={"blue": BLUE, "red": RED})
    (folder / "own.toml").write_text(OWN)
    return folder


def learn_own(few: Path, out: Path, *, resume: bool = False, progress: Progress | None = None, seed: int = 5) -> Run:
    return train(few, out=out, recipe="quick", config=few / "own.toml", seed=seed, resume=resume, progress=progress)


@pytest.fixture(scope="module")
def uninterrupted(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return learn_own(few, tmp_path_factory.mktemp("own") / "run")


def assert_same_run(found: Path, expected: Path) -> None:
    assert (found / "weights.safetensors").read_bytes() == (expected / "weights.safetensors").read_bytes()
    assert (found / "predictions.csv").read_bytes() == (expected / "predictions.csv").read_bytes()
    assert {path.name for path in found.iterdir()} == RUN_FILES

    def timeless(folder: Path) -> list[dict[str, str]]:
        with (folder / "history.csv").open() as file:
            return [
                {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
                for row in csv.DictReader(file)
            ]

    assert timeless(found) == timeless(expected)


def test_first_layer_is_whitened_and_frozen(uninterrupted: Run) -> None:
    stem = safetensors.numpy.load_file(uninterrupted.folder / "weights.safetensors")["features.stem.weight"]
    np.testing.assert_array_equal(stem[16:], -stem[:16])
    [row] = [layer for layer in uninterrupted.load().card.layers if "stem" in layer.name]
    assert (row.trainable, row.parameters) == (0, stem.size)


class KilledError(Exception):
    """Stands for the end of the process."""


class Kills(Progress):
    """Ends training after a number of batches."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        kills = self

        class Counts(Task):
            def advance(self, images: int, figures: str = "") -> None:
                if description == "Training" and images:
                    kills.left -= 1
                    if kills.left < 0:
                        raise KilledError

        yield Counts()


def test_resume_after_any_batch_gives_the_same_weights(
    few: Path, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    out, cut_off = tmp_path / "run", 0
    for after in (1, 3, 2, 1, 2):  # one advance more when resumed: for what was done before
        with pytest.raises(KilledError) as caught:
            learn_own(few, out, resume=cut_off > 0, progress=Kills(after))
        assert any("run.partial" in note for note in caught.value.__notes__)
        cut_off += 1
    assert_same_run(learn_own(few, out, resume=True).folder, uninterrupted.folder)
    assert (out / "train.log").read_text().count("Resuming after") == cut_off
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_repeatedly_killed_training_gives_the_same_weights(few: Path, uninterrupted: Run, tmp_path: Path) -> None:
    """Before the first checkpoint, directly after one, and some time after another; resumed each time."""
    out, partial = tmp_path / "run", tmp_path / "run.partial"
    command = [sys.executable, "-m", "belvedere", "train", str(few), "--recipe", "quick", "--seed", "5", "--resume"]
    command += ["--config", str(few / "own.toml"), "--out", str(out)]

    def epochs() -> int:
        with suppress(FileNotFoundError):
            return len((partial / "history.csv").read_text().splitlines()) - 1
        return 0

    def killed_when(reached: Callable[[], bool], delay: float = 0.0) -> None:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not reached():
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()

    killed_when((partial / "config.toml").exists)
    killed_when((partial / CHECKPOINT).exists)
    begun = epochs()
    killed_when(lambda: epochs() > begun, delay=0.05)
    if partial.exists():  # else the machine is so quick that the last kill came too late
        learn_own(few, out, resume=True)
    assert_same_run(out, uninterrupted.folder)


def test_resume_before_the_first_checkpoint_starts_again(few: Path, uninterrupted: Run, tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "run")
    partial.mkdir()
    (partial / MARKER_FILE).write_text("0")
    (partial / "config.toml").write_text("[run]\nseed = 99")
    (partial / "train.log").write_text("Training by another recipe\n")
    (partial / TEMPORARY_NAME.format("0123456789abcdef")).write_bytes(b"half of a checkpoint")
    assert_same_run(learn_own(few, tmp_path / "run", resume=True).folder, uninterrupted.folder)


def test_diverged_weights_raise(few: Path, tmp_path: Path) -> None:
    (tmp_path / "wild.toml").write_text(OWN + "learning_rate = 1e30\nmuon_learning_rate = 1e30\n")
    with pytest.raises(TrainingError, match=r"\bNaN\b"):
        train(few, out=tmp_path / "run", recipe="quick", config=tmp_path / "wild.toml", epochs=1)


@pytest.fixture
def cut(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run folder of a training that was interrupted in its first epoch."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KilledError):
        learn_own(few, tmp_path / "run", progress=Kills(1))
    assert (partial_path(tmp_path / "run") / CHECKPOINT).is_file()
    return tmp_path / "run"


def test_resume_with_other_arguments_names_the_key(few: Path, cut: Path) -> None:
    before = (partial_path(cut) / CHECKPOINT).read_bytes()
    with pytest.raises(UsageError, match=r"\bseed = 5, .* 6\."):
        learn_own(few, cut, resume=True, seed=6)
    for changes, key in (
        ({"epochs": 7}, "epochs = 4"),
        ({"max_minutes": 3}, "max_minutes = None"),
        ({"recipe": "standard"}, r"\w+ = "),
    ):
        arguments = {"recipe": "quick", "config": few / "own.toml", "seed": 5} | changes
        with pytest.raises(UsageError, match=f"{re.escape(str(cut))}.* {key}"):
            train(few, out=cut, resume=True, **arguments)  # type: ignore[arg-type]
    assert (partial_path(cut) / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("content", [None, b"[run", b"", b"\xff"])
def test_resume_with_a_damaged_config_names_it(content: bytes | None, few: Path, cut: Path) -> None:
    file = partial_path(cut) / "config.toml"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UsageError):
        learn_own(few, cut, resume=True)


def test_resume_of_data_whose_path_is_not_utf8(
    few: Path, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    shutil.copytree(few, data := tmp_path / os.fsdecode(b"few\xff"))
    with pytest.raises(KilledError):
        learn_own(data, tmp_path / "run", progress=Kills(1))
    resumed = learn_own(data, tmp_path / "run", resume=True).folder
    expected = uninterrupted.folder / "weights.safetensors"
    assert (resumed / "weights.safetensors").read_bytes() == expected.read_bytes()
    assert tomllib.loads((resumed / "config.toml").read_text())["run"]["seed"] == 5


def test_resume_needs_the_same_images_at_any_path(few: Path, cut: Path, uninterrupted: Run, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(few, moved)
    extra = moved / "train" / "red" / "extra.png"
    Image.new("RGB", (40, 40), RED).save(extra)
    with pytest.raises(UsageError, match="data_sha256"):
        learn_own(moved, cut, resume=True)
    extra.unlink()
    (corrections := tmp_path / "j.jsonl").touch()
    corrected = load_dataset(moved, corrections=corrections)  # by nobody's decisions
    resumed = train(corrected, out=cut, recipe="quick", config=few / "own.toml", seed=5, resume=True).folder
    section = tomllib.loads((resumed / "config.toml").read_text())["run"]
    assert (section["data"], section["corrections"]) == (str(moved), str(corrections))
    expected = uninterrupted.folder / "weights.safetensors"
    assert (resumed / "weights.safetensors").read_bytes() == expected.read_bytes()


def test_resume_needs_the_same_unlabeled_images(
    few: Path, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, out = tmp_path / "unlabeled", tmp_path / "run"
    draw_images(more, 4, colors={"blue": BLUE, "red": RED})

    def learn(progress: Progress, *, resume: bool) -> Run:
        return train(
            few,
            out=out,
            recipe="quick",
            config=few / "own.toml",
            resume=resume,
            progress=progress,
            teacher=uninterrupted.folder,
            unlabeled=more,
        )

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KilledError):
        learn(Kills(1), resume=False)
    shutil.copy(few / "train" / "red" / "1.png", more / "known.png")  # left out, as before
    Image.new("RGB", (40, 40), RED).save(extra := more / "extra.png")
    with pytest.raises(UsageError, match="unlabeled_sha256"):
        learn(Progress(), resume=True)
    extra.unlink()
    section = tomllib.loads((learn(Progress(), resume=True).folder / "config.toml").read_text())["run"]
    assert len(section["unlabeled_sha256"]) == 64


def test_damaged_checkpoint_is_named_and_overwrite_starts_again(few: Path, cut: Path) -> None:
    checkpoint = partial_path(cut) / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="checkpoint"):
        learn_own(few, cut, resume=True)
    with pytest.raises(UsageError, match=r"`overwrite`.*`resume`"):
        train(few, out=cut, overwrite=True, resume=True)
    with pytest.raises(UsageError, match=r"`epochs`.*`max_minutes`"):
        train(few, out=cut, epochs=1, max_minutes=1)
    with pytest.raises(UsageError, match=r"`max_minutes` .* 0\."):
        train(few, out=cut, max_minutes=0)
