"""The whole job on a practice set: draw, audit, train, measure, and answer for a fjord.

Knows the order of the steps and how much of each fits in a minute or two; each step is another module's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belvedere.auditing.audit import audit
from belvedere.auditing.label_issues import WRONG_LABEL
from belvedere.demo.dataset import GroundTruth, make_synthetic_dataset
from belvedere.evaluation.report.sinks import ContactSheet
from belvedere.inference.batch import predict_files
from belvedere.inference.model import load
from belvedere.runtime.output_folder import create_output_folder
from belvedere.runtime.progress import Progress
from belvedere.training.train import Run, train
from belvedere.types.audit import Audit
from belvedere.types.prediction import Prediction

TRAIN_PER_CLASS = 100
TEST_PER_CLASS = 40
EPOCHS = 30


@dataclass(frozen=True, slots=True)
class Found:
    """How well the audit found one kind of planted fault."""

    what: str  # such as "wrong labels"
    planted: int  # photographs, or groups of copies
    flagged: int
    right: int  # flagged that were planted

    @property
    def precision(self) -> float:
        """Share of the flagged that were planted; where nothing was flagged, 1 if nothing was planted, else 0."""
        return self.right / self.flagged if self.flagged else float(not self.planted)

    @property
    def recall(self) -> float:
        """Share of the planted that were flagged; 1 where nothing was planted."""
        return self.right / self.planted if self.planted else 1.0


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    photographs: Path  # the practice set, with its truth.json
    audit: Audit
    found: tuple[Found, ...]  # what of the planted faults, kind by kind
    run: Run
    report: Path
    fjord: Prediction  # the model's answer for the picture that holds several classes
    fjord_shares: Mapping[str, float]  # class -> share of that picture, as it was drawn


def run_demo(
    out: Path | str,
    *,
    train_per_class: int = TRAIN_PER_CLASS,
    test_per_class: int = TEST_PER_CLASS,
    epochs: int = EPOCHS,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Demo:
    """Draws a practice set, audits it, trains a compact network on it, measures it and answers for a fjord.

    Args:
        out: Folder for all of it: `photographs/`, `audit/`, `run/`, `fjord.csv` and `fjord.png`.
        train_per_class: Photographs of each of the six classes to train on.
        test_per_class: And to test on.
        epochs: Of training.
        seed: Of the drawings and the training.
        overwrite: Whether an older demo there may be replaced.
        progress: Shows how far it is.

    Returns:
        Where everything is, and what came of it.

    Raises:
        UsageError: `out` may not be written.
        KeyboardInterrupt: It was ended before training had completed an epoch.
    """
    folder = Path(out)
    progress = progress or Progress()
    with create_output_folder(folder, overwrite=overwrite):
        return _run(folder, train_per_class, test_per_class, epochs, seed, progress)


def _run(folder: Path, train_per_class: int, test_per_class: int, epochs: int, seed: int, progress: Progress) -> Demo:
    """Does the whole job in a folder that this process holds."""
    photographs = folder / "photographs"
    truth = make_synthetic_dataset(
        photographs, train_per_class=train_per_class, test_per_class=test_per_class, seed=seed, progress=progress
    )
    # The model that comes with Belvedere has not seen these pictures, so it may judge their labels.
    audited = audit(photographs, out=folder / "audit", model=load(), seed=seed, progress=progress)
    run = train(photographs, out=folder / "run", recipe="quick", epochs=epochs, seed=seed, progress=progress)
    fjord = photographs / "fjord.jpg"
    model = run.load()
    [answer] = model.predict(fjord)
    predict_files(model, [fjord], "csv", out=folder / "fjord.csv", sinks=[ContactSheet(folder / "fjord.png")])
    found = compare_with_truth(audited, truth, photographs)
    return Demo(photographs, audited, found, run, run.folder / "report.html", answer, truth.areas["fjord.jpg"])


def compare_with_truth(audited: Audit, truth: GroundTruth, photographs: Path) -> tuple[Found, ...]:
    """Counts what an audit found of the faults that were planted in a practice set.

    Args:
        audited: The audit of it.
        truth: What was planted.
        photographs: The folder of the set.
    """

    def name(image: str) -> str:
        return Path(image).relative_to(photographs).as_posix()

    def flagged(*checks: str) -> set[str]:
        return {name(issue.image) for issue in audited.issues if issue.is_issue and issue.issue_type in checks}

    planted = {frozenset(group) for group in truth.duplicates}
    groups = {frozenset(map(name, group.images)): group for group in audited.groups}
    leaks = {group for group in planted if len({image.split("/")[0] for image in group}) > 1}
    found_leaks = {members for members, group in groups.items() if group.leaks}
    wrong, unreadable = {one.image for one in truth.wrong_labels}, set(truth.unreadable)
    doubted, broken = flagged(WRONG_LABEL), flagged("unreadable", "truncated")
    return (
        Found("wrong labels", len(wrong), len(doubted), len(wrong & doubted)),
        Found("groups of copies", len(planted), len(groups), len(planted & groups.keys())),
        Found("leaks into the test part", len(leaks), len(found_leaks), len(leaks & found_leaks)),
        Found("unreadable files", len(unreadable), len(broken), len(unreadable & broken)),
    )
