"""Folders with the predictions of two runs on the same images."""

from collections.abc import Sequence
from pathlib import Path

from belvedere.inference.writers.text import write_predictions
from belvedere.types.prediction import Prediction
from conftest import CLASS_NAMES, make_prediction, write_image

SURE = {"blue": (0.9, 0.06, 0.04), "green": (0.06, 0.9, 0.04), "red": (0.04, 0.06, 0.9)}


def write_run(folder: Path, answers: Sequence[Prediction], names: Sequence[str] = CLASS_NAMES) -> Path:
    folder.mkdir(parents=True)
    write_predictions(folder / "predictions.csv", answers, names)
    return folder


def write_both(folder: Path, said: Sequence[tuple[str, str, str]]) -> tuple[Path, Path]:
    """Write two runs on the same images; each entry has the label and both predictions."""
    images = [
        write_image(folder / "photos" / label / f"{number}.png", label, number)
        for number, (label, _, _) in enumerate(said)
    ]
    for place, name in ((1, "a"), (2, "b")):
        answers = [
            make_prediction(str(image), each[0], *SURE[each[place]]) for image, each in zip(images, said, strict=True)
        ]
        write_run(folder / name, answers)
    return folder / "a", folder / "b"
