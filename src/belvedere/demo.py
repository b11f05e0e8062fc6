"""The whole job on a practice set: draw, train, measure, and answer for a fjord.

Knows the order of the steps and how much of each fits in a minute or two; each step is another module's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belvedere.practice.folder import draw_practice_set
from belvedere.predict import predict_files
from belvedere.progress import Progress
from belvedere.records import Prediction
from belvedere.storage import claim_folder
from belvedere.training.run import Run, train

TRAIN_PER_CLASS = 100
TEST_PER_CLASS = 40
EPOCHS = 30


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    photographs: Path  # the practice set, with its truth.json
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
    """Draws a practice set, trains a compact network on it, measures it and answers for a fjord.

    Args:
        out: Folder for all of it: `photographs/`, `run/`, `fjord.csv` and `fjord.png`.
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
        TrainingError: Training was ended before its first epoch was complete.
    """
    folder = Path(out)
    progress = progress or Progress()
    claim_folder(folder, overwrite=overwrite)
    photographs = folder / "photographs"
    truth = draw_practice_set(
        photographs, train_per_class=train_per_class, test_per_class=test_per_class, seed=seed, progress=progress
    )
    run = train(photographs, out=folder / "run", recipe="quick", epochs=epochs, seed=seed, progress=progress)
    fjord = photographs / "fjord.jpg"
    model = run.load()
    [answer] = model.predict(fjord)
    predict_files(model, [fjord], "csv", out=folder / "fjord.csv", sheet=folder / "fjord.png")
    return Demo(photographs, run, run.folder / "report.html", answer, truth.areas["fjord.jpg"])
