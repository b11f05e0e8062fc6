"""The demo: draws a synthetic dataset, audits it, trains on it and predicts an image with several classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belvedere.auditing.audit import audit
from belvedere.auditing.label_issues import LABEL_ISSUE
from belvedere.demo.dataset import FJORD, GroundTruth, make_synthetic_dataset
from belvedere.demo.scenes.drawing import CLASS_NAMES
from belvedere.evaluation.report.sinks import ContactSheet
from belvedere.inference.batch import predict_files
from belvedere.inference.model import load_model
from belvedere.runtime.output_folder import create_output_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.training.run import Run
from belvedere.training.train import train
from belvedere.types.audit import Audit
from belvedere.types.prediction import Prediction
from belvedere.types.result import Result, short_repr

TRAIN_PER_CLASS = 100
TEST_PER_CLASS = 20
EPOCHS = 10
# Of the recipe `quick`, for few images on an old processor: smaller images, and more steps in an epoch.
RECIPE_CHANGES: Mapping[str, Any] = {
    "batch_size": 64,
    "image_size": 96,
    "image_size_schedule": ((0.0, 48), (0.8, 80)),
    "validation_fraction": 0.2,  # the limit of "none of these" is fitted to these images
}
NUM_STAGES = 4
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Counts of one kind of planted fault, and of those that the audit found."""

    name: str  # such as "wrong labels"
    planted: int  # images, or groups of duplicates
    flagged: int
    correct: int  # flagged and planted

    @property
    def precision(self) -> float:
        """Fraction of the flagged that were planted; if nothing was flagged, 1 if nothing was planted, else 0."""
        return self.correct / self.flagged if self.flagged else float(not self.planted)

    @property
    def recall(self) -> float:
        """Fraction of the planted that were flagged; 1 if nothing was planted."""
        return self.correct / self.planted if self.planted else 1.0


@dataclass(frozen=True, repr=False)
class Demo(Result):
    """Result of `run_demo`. In a notebook, it shows the planted faults that were found, the run and the audit."""

    data: Path  # folder of the synthetic dataset, with its truth.json
    audit: Audit
    scores: tuple[DetectionScore, ...]  # of the audit, for each kind of planted fault
    run: Run
    audit_report: Path
    report: Path  # of the run
    fjord: Prediction  # for an image with several classes
    fjord_areas: Mapping[str, float]  # class -> fraction of that image

    def __repr__(self) -> str:
        accuracy, num_flagged = self.run.evaluation.accuracy, self.audit.num_flagged
        return short_repr(self, data=str(self.data), num_flagged=num_flagged, accuracy=accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics of the run and the scores of the audit ready for JSON, as `belvedere demo --json`."""
        scores = {each.name: {"precision": each.precision, "recall": each.recall} for each in self.scores}
        reports = {"report": str(self.report), "audit_report": str(self.audit_report)}
        found = reports | {"fjord": self.fjord.answer, "audit": scores}
        return found | self.run.to_dict()


def run_demo(
    out: Path | str,
    *,
    train_per_class: int = TRAIN_PER_CLASS,
    test_per_class: int = TEST_PER_CLASS,
    epochs: int = EPOCHS,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Demo:
    """Draw a synthetic dataset, audit it, train a small network on it, evaluate it and predict a fjord.

    Args:
        out: Folder to make, with `images/`, `audit/`, `run/`, `fjord.csv` and `fjord.png`.
        train_per_class: Number of training images for each of the six classes.
        test_per_class: Number of test images for each class.
        epochs: Number of training epochs.
        seed: Seed for images and training.
        overwrite: Whether an older demo may be replaced.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The results, and where their files are.

    Raises:
        UsageError: `out` cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed before the end of the first epoch.
    """
    folder, progress = Path(out), choose_progress(progress)
    with create_output_folder(folder, overwrite=overwrite):
        data, num_images = folder / "images", len(CLASS_NAMES) * (train_per_class + test_per_class)
        progress.log(f"1/{NUM_STAGES} Drawing {num_images} images, with planted faults")
        truth = make_synthetic_dataset(
            data, train_per_class=train_per_class, test_per_class=test_per_class, seed=seed, progress=progress
        )
        progress.log(f"2/{NUM_STAGES} Auditing them")
        # The bundled model was not trained on these images, so it can find their wrong labels.
        found = audit(data, out=folder / "audit", model=load_model(), seed=seed, progress=progress)
        progress.log(f"3/{NUM_STAGES} Training on them, and evaluating on the test images")
        run = train_on(data, folder / "run", epochs=epochs, seed=seed, progress=progress)
        progress.log(f"4/{NUM_STAGES} Predicting an image with several classes")
        model, fjord = run.model, data / FJORD
        [prediction] = model.predict(fjord)
        sheet = ContactSheet(folder / "fjord.png", progress=False)
        predict_files(model, [fjord], "csv", out=folder / "fjord.csv", sinks=[sheet], progress=False)
    scores, reports = compare_with_truth(found, truth, data), (folder / "audit" / REPORT, folder / "run" / REPORT)
    return Demo(data, found, scores, run, *reports, prediction, truth.areas[FJORD])


def train_on(data: Path, out: Path, *, epochs: int, seed: int, progress: Progress | bool | None) -> Run:
    """Train the network of the demo on a synthetic dataset."""
    return train(data, out=out, recipe="quick", epochs=epochs, seed=seed, progress=progress, **RECIPE_CHANGES)


def compare_with_truth(found: Audit, truth: GroundTruth, data: Path) -> tuple[DetectionScore, ...]:
    """Compare the audit of a synthetic dataset in the folder `data` with the planted faults."""

    def name(image: str) -> str:
        return Path(image).relative_to(data).as_posix()

    def flagged(*checks: str) -> set[str]:
        return {name(issue.image) for issue in found.issues if issue.is_issue and issue.issue_type in checks}

    duplicates = {frozenset(group) for group in truth.duplicates}
    groups = {frozenset(map(name, group.images)): group for group in found.groups}
    leaks = {group for group in duplicates if len({image.split("/")[0] for image in group}) > 1}
    found_leaks = {members for members, group in groups.items() if group.is_split_leak}
    wrong, unreadable = {one.image for one in truth.wrong_labels}, set(truth.unreadable)
    flagged_labels, broken = flagged(LABEL_ISSUE), flagged("unreadable", "truncated")
    return (
        DetectionScore("wrong labels", len(wrong), len(flagged_labels), len(wrong & flagged_labels)),
        DetectionScore("groups of duplicates", len(duplicates), len(groups), len(duplicates & groups.keys())),
        DetectionScore("split leaks", len(leaks), len(found_leaks), len(leaks & found_leaks)),
        DetectionScore("unreadable files", len(unreadable), len(broken), len(unreadable & broken)),
    )
