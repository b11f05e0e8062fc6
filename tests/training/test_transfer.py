"""Standing on a pretrained network: embeddings once, a probe, fine-tuning from it, and teaching another network."""

import csv
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import belvedere
from belvedere.data.array_cache import clear_cache, list_caches
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import hash_samples
from belvedere.errors import CacheError, UsageError, WeightsError
from belvedere.reviewing.models import ReviewModels, find_models
from belvedere.runtime.progress import Progress, Task
from belvedere.training import input_size
from belvedere.training.device import Device
from belvedere.training.networks import ArchitectureSpec
from belvedere.training.run import Run
from belvedere.training.train import train

BACKBONE = "test_vit.r160_in1k"
SIDE = {"image_size": 32}


def describe(sight: ReviewModels, data: Path) -> int:
    """Return how many images have embeddings."""
    assert sight.embed is not None
    contents = hash_samples(load_dataset(data).samples, Progress())
    return len(sight.embed(contents, Progress()).values)


def draw(folder: Path, each: int, seed: int) -> None:
    """Images of two kinds that differ in color, with much noise."""
    random = np.random.default_rng(seed)
    for name, color in (("blue", (60, 80, 160)), ("red", (150, 80, 60))):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(np.array(color) + random.normal(0, 90, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw(folder / "train", 30, 0)
    draw(folder / "test", 10, 1)
    (folder / "train" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "test" / "blue" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken as well")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = timm.create_model(BACKBONE)
    safetensors.torch.save_model(model, str(file))
    return file


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "small.toml"
    file.write_text("[recipe]\nimage_size = 32\n")
    return file


def probe(photos: Path, out: Path, weights: Path, config: Path, progress: Progress | None = None) -> Run:
    return train(photos, out=out, recipe="probe", config=config, network=BACKBONE, weights=weights, progress=progress)


@pytest.fixture(scope="module")
def run(data: Path, weights: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return probe(data, tmp_path_factory.mktemp("runs") / "probe", weights, config)


class Watched(Progress):
    """Which tasks there were, with how much was left to do in them."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int]] = []

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        steps: list[int] = []

        class Counts(Task):
            def advance(self, images: int, figures: str = "") -> None:
                steps.append(images)

        yield Counts()
        self.tasks.append((description, sum(steps[1:])))  # the first is what was there already


def test_a_probe_is_a_run_like_any_other(run: Run, data: Path, weights: Path) -> None:
    assert run.evaluation.accuracy > 0.8
    assert run.evaluation.num_unreadable == 1
    for name in ("model.onnx", "weights.safetensors", "history.csv", "report.html", "config.toml", "predictions.csv"):
        assert (run.folder / name).is_file()
    again = belvedere.evaluate(run.load(), belvedere.load_dataset(data))
    assert again.accuracy == run.evaluation.accuracy
    for ours, theirs in zip(run.evaluation.predictions, again.predictions, strict=True):
        assert (ours.image, ours.predicted_label, ours.error) == (theirs.image, theirs.predicted_label, theirs.error)
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)
    card = run.load().card
    assert card.provenance.pretrained_from["weights"] == weights.name
    assert len(card.provenance.pretrained_from["sha256"]) == 64
    assert card.provenance.pretrained_from["license"] == "apache-2.0"
    assert card.provenance.num_images == {
        "train": 60,
        "validation": 0,
        "test": 21,
    }  # none is needed to choose an epoch
    assert (card.preprocess.height, card.preprocess.interpolation) == (32, "bicubic")
    onnx.checker.check_model(onnx.load(run.folder / "model.onnx"))


def test_a_second_run_describes_nothing_again(
    run: Run, data: Path, weights: Path, config: Path, tmp_path: Path
) -> None:
    """With one label changed, as after a correction."""
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        for path in sorted(data.glob("*/*/*.png")):
            label = "red" if path == data / "train/blue/0.png" else path.parent.name
            writer.writerow([path, label, path.parts[-3]])
    watched = Watched()
    changed = probe(table, tmp_path / "run", weights, config, watched)
    described = [left for task, left in watched.tasks if task == "Embedding"]
    assert len(described) == 4  # to learn from, to check, in places, to test on
    assert sum(described) <= 2  # the broken ones are tried again
    before, after = run.load().card.provenance, changed.load().card.provenance
    assert before.data_sha256 != after.data_sha256
    assert {store.kind for store in list_caches()} >= {"embeddings"}


def test_fine_tuning_starts_from_the_probe(data: Path, weights: Path, config: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        config.read_text() + "image_size_schedule = [[0.0, 32], [1.0, 32]]\ncached_image_size = 40\nmin_steps = 0\n"
    )
    tuned = train(
        data, out=tmp_path / "run", recipe="finetune", config=plan, network=BACKBONE, weights=weights, epochs=2
    )
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3
    assert tuned.evaluation.accuracy > 0.8
    assert "of the way from the start" in (tmp_path / "run" / "train.log").read_text()
    assert tuned.load().card.provenance.num_images["validation"] == 6


def test_a_teacher_is_learned_from(run: Run, data: Path, tmp_path: Path) -> None:
    """Labels and predictions are mixed; unlabeled images count by the prediction only, and test images stay out."""
    draw(tmp_path / "more", 5, 2)
    known = next((data / "test" / "red").glob("?.png"))
    (tmp_path / "more" / "known.png").write_bytes(known.read_bytes())
    taught = train(
        data,
        out=tmp_path / "run",
        recipe="quick",
        epochs=1,
        teacher=run.folder,
        unlabeled=tmp_path / "more",
    )
    num_images = taught.load().card.provenance.num_images
    assert (num_images["train"], num_images["unlabeled"]) == (54, 10)
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["recipe"]
    assert (written["teacher"], written["unlabeled"]) == (str(run.folder), str(tmp_path / "more"))
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Unlabeled images: 10, without 1 that are in the dataset" in log


def test_audit_and_training_take_fewer_pixels_of_small_images(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    found = belvedere.audit(data, network=BACKBONE, weights=weights)
    run = train(data, out=tmp_path / "run", recipe="probe", network=BACKBONE, weights=weights)
    assert run.load().card.preprocess.height == 128  # of 160
    assert found.network is not None
    keys = [each.key for each in list_caches() if each.kind == "embeddings"]
    assert found.network.embeddings in keys
    assert all("128x128" in key for key in keys)


def test_minutes_choose_the_size_of_the_images(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(entry: ArchitectureSpec, _: Device) -> float:
        return 1.0 if entry.preprocess.height > 100 else 0.001

    monkeypatch.setattr(input_size, "_time_size", slow)
    short = train(data, out=tmp_path / "run", recipe="probe", network=BACKBONE, weights=weights, max_minutes=0.5)
    assert short.load().card.preprocess.height == 96
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["recipe"]["image_size"] == 96


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "quick", "network": BACKBONE}, r"'test_vit\.r160_in1k'.* compact-large"),
        ({"recipe": "probe", "network": "resnet17"}, r"'resnet17'.* resnet18"),
        ({"recipe": "quick", "weights": "w.pth"}, r"weights .*'w\.pth'"),
        ({"recipe": "quick", "bach_size": 2}, "'bach_size'.*'batch_size'"),
        ({"recipe": "probe", "teacher": "run"}, "teacher .*epochs"),
        ({"recipe": "quick", "unlabeled": "more"}, "teacher.* unlabeled = 'more'"),
        ({"recipe": "quick", "epochs": 0}, "epochs = 0"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    arguments: dict[str, object], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train(data, out=tmp_path / "run", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_asked_for_are_refused(data: Path, weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "config.toml"
    other.write_text(f'[recipe]\nweights_sha256 = "{"0" * 64}"\n')
    with pytest.raises(WeightsError, match=f"{weights.name} .*{'0' * 64}.*weights_sha256"):
        probe(data, tmp_path / "run", weights, other)
    with pytest.raises(WeightsError, match=r"a\.safetensors .*test_vit"):
        safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
        train(
            data,
            out=tmp_path / "run",
            network=BACKBONE,
            recipe="probe",
            weights=tmp_path / "a.safetensors",
        )
    assert not (tmp_path / "run").exists()


def test_metrics_name_the_probe(run: Run) -> None:
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert (metrics["recipe"], metrics["epochs"], metrics["interrupted"]) == ("probe", 1, False)


def test_a_review_finds_neighbours_by_what_an_audits_pretrained_network_saw(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    found = belvedere.audit(data, out=tmp_path / "audit", network=BACKBONE, weights=weights)
    assert found.network is not None
    assert found.network.model is None
    sight = find_models(tmp_path / "audit", None, found.class_names, Progress())
    assert sight.model is None  # it does not say where it sees a class, and no other model knows these classes
    assert describe(sight, data) == 80
    clear_cache()
    with pytest.raises(CacheError):
        describe(sight, data)
