"""A model written in another form, if its answers stay close to the original's.

Knows how far answers may move, and how that is measured; does not know how a graph is changed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import BelvedereError, ExportError, UsageError, find_named
from belvedere.images.decode import DecodedImage, read_inputs
from belvedere.images.listing import expand
from belvedere.inference.model import INPUT, Model, load
from belvedere.inference.model_card import PLAIN_FORMAT, card_to_metadata
from belvedere.inference.model_paths import find_model, refuse_models
from belvedere.inference.onnx_transforms import (
    Pictures,
    batches,
    load_graph,
    read_graph,
    remove_tta,
    to_float16_weights,
    to_int8,
    to_nchw_float,
    write_card,
)
from belvedere.inference.postprocess import Outputs
from belvedere.inference.session import MAX_REASON, Session
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import Input, OutputFile
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess

CALIBRATED_ON = 128  # pictures; every fifth of those that are taken
NUM_VALIDATION_IMAGES = 512  # others
LEAST_PICTURES = 30


@dataclass(frozen=True, slots=True)
class Bound:
    """How far the answers of a form may be from the original's."""

    agreement: float  # share of pictures with the same top class, at least
    change: float  # of any probability, at most
    ood_flip_rate: float = 0.05  # share of pictures that only one of them calls "none of these", at most


BOUNDS: Mapping[str, Bound] = {
    "int8": Bound(0.99, 0.25),
    "float16-weights": Bound(0.998, 0.02),
    "nchw": Bound(0.998, 0.001),
}
NO_TTA = Bound(0.97, 0.5, 0.1)  # of any form that looks once where the original looks twice


Figures = tuple[int, float, float, float, float | None]  # what an `Export` holds from `images` to `ood_flip_rate`


@dataclass(frozen=True, slots=True)
class Export:
    """A form of a model, and how it compares with the original."""

    form: str
    views: int | None  # 1: one view instead of two; None: as the original
    original: str  # fingerprint of the model it was made from
    images: int  # compared on
    agreement: float  # share of them with the same top class
    largest_change: float  # of any probability
    mean_change: float  # of the largest of a picture's, on average
    ood_flip_rate: float | None  # share that only one of them calls "none of these"; None where that isn't told
    bound: Bound
    calibrated_on: int  # pictures
    size_bytes: int
    original_bytes: int

    @property
    def holds(self) -> bool:
        """Whether the answers are within the bound; not where a probability is no number."""
        return (
            self.agreement >= self.bound.agreement
            and self.largest_change <= self.bound.change
            and (self.ood_flip_rate is None or self.ood_flip_rate <= self.bound.ood_flip_rate)
        )


def export_model(
    model: Path | str,
    out: Path | str,
    form: str,
    *,
    photos: Path | str,
    views: int | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Writes a model in another form, if its answers stay close to the original's.

    Args:
        model: A `model.onnx`, or the run folder that holds one.
        out: The file to write.
        form: "int8": weights and activations in 8 bits, calibrated; "float16-weights": weights stored in 16
            bits; "nchw": input float32 (N, 3, H, W), RGB from 0 to 255, for other runtimes.
        photos: Photographs like those the model is for, such as its training photographs: to calibrate on, and others
            of them to compare on.
        views: 1: look once, where the original means the answers over a picture and its mirror image.
        force: Whether to write it although it is over the bound.
        overwrite: Whether a file that is there may be replaced.
        progress: Shows how far it is.

    Returns:
        The comparison, which is also in the file's metadata.

    Raises:
        UsageError: There is no such form, the file may not be written, or there are too few photographs.
        ExportError: The answers are over the bound of the form.
        InvalidModelError: The model can't be opened.
    """
    bound = NO_TTA if views == 1 else find_named("form of a model", form, BOUNDS)
    find_named("form of a model", form, BOUNDS)
    out, source = Path(out), find_model(model)
    original = load(model)
    file = OutputFile(out, overwrite=overwrite, inputs=partial(_list_read, source, Path(photos)))
    chosen, compared = _read_pictures(Path(photos), original.card.preprocess, progress or Progress())
    original.run(compared[:1])  # a model that can't be run is told as one, not as one that can't be changed
    changed, figures = _change(original, source, form, views, chosen, compared)
    export = Export(
        form,
        views,
        original.fingerprint,
        *figures,
        bound=bound,
        calibrated_on=len(chosen) if form == "int8" else 0,
        size_bytes=len(changed),
        original_bytes=source.stat().st_size,
    )
    if not (export.holds or force):
        raise ExportError(_refusal(export))
    metadata = card_to_metadata(original.card) | {"export": json.dumps(asdict(export))}
    content = write_card(load_graph(changed), metadata | ({"format": PLAIN_FORMAT} if form == "nchw" else {}))
    write_bytes(out, content, file.check)
    return export


def _change(
    original: Model, source: Path, form: str, views: int | None, chosen: Pictures, compared: Pictures
) -> tuple[bytes, Figures]:
    """Make the form, without metadata, and compare it; whatever ONNX raises at an odd graph becomes one error."""
    try:
        graph = read_graph(source)
        graph = remove_tta(graph) if views == 1 else graph
        changed = (
            to_int8(graph, chosen)
            if form == "int8"
            else {"float16-weights": to_float16_weights, "nchw": to_nchw_float}[form](graph)
        )
        content = write_card(changed, {})
        return content, _compare(original, content, compared, form)
    except BelvedereError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise ExportError(f"{original.name} can't be changed into the form {form}: {reason}. Take another.") from error


def _refusal(export: Export) -> str:
    bound, changed = export.bound, export.ood_flip_rate
    none = (
        ""
        if changed is None
        else f', {changed:.1%} have "none of these" from one only (bound: {bound.ood_flip_rate:.0%})'
    )
    return (
        f"The {export.form} form answers otherwise than the original: the top class is equal on {export.agreement:.1%} "
        f"of {export.images} photographs (bound: {bound.agreement:.1%}){none}, and a probability moves by up to "
        f"{export.largest_change:.3f} (bound: {bound.change}). Nothing was written. Give more photographs like "
        "those it is for, take another form, or add --force."
    )


def _list_read(source: Path, photos: Path) -> Iterator[Input]:
    yield source
    yield from (each for each in expand([photos]) if isinstance(each, Path | str))


def _read_pictures(photos: Path, preprocess: Preprocess, progress: Progress) -> tuple[Pictures, Pictures]:
    """Reads pictures from all over a folder: some to calibrate on, and others to compare on."""
    listed = list(expand(refuse_models([photos])))
    count = min(len(listed), CALIBRATED_ON + NUM_VALIDATION_IMAGES)
    taken = [listed[number * len(listed) // count] for number in range(count)]
    read = []
    with progress.task("Reading", len(taken)) as task:
        for outcome in read_inputs(taken, preprocess):
            if isinstance(outcome, DecodedImage):
                read.append(outcome.pixels)
            task.advance(1)
    if len(read) < LEAST_PICTURES:
        raise UsageError(
            f"{photos} holds {len(read)} pictures that can be read: expected {LEAST_PICTURES} or more, and better "
            f"{CALIBRATED_ON + NUM_VALIDATION_IMAGES}. Give a folder of photographs like those that the model is for."
        )
    pictures = np.stack(read)
    fifth = np.arange(len(pictures)) % 5 == 0
    return pictures[fifth], pictures[~fifth]


def _compare(original: Model, content: bytes, pictures: Pictures, form: str) -> Figures:
    """What an `Export` holds from `images` to `ood_flip_rate`."""
    expected = original.forward_all(pictures)
    if form == "nchw":
        probabilities, ood_flip_rate = _run_plain(content, pictures), None
    else:
        found = Model.from_bytes(content, original.card).forward_all(pictures)
        probabilities, ood_flip_rate = found.probabilities, _none_changed(original, expected, found)
    change = np.abs(probabilities - expected.probabilities).max(1)
    same = probabilities.argmax(1) == expected.probabilities.argmax(1)
    return len(pictures), float(same.mean()), float(change.max()), float(change.mean()), ood_flip_rate


def _run_plain(content: bytes, pictures: Pictures) -> NDArray[np.float32]:
    session = Session(content, "The plain form")
    given = (np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) for batch in batches(pictures))
    return np.concatenate([session.run(["probabilities"], {INPUT: batch})[0] for batch in given])


def _none_changed(original: Model, expected: Outputs, found: Outputs) -> float | None:
    """How often only one of two is "none of these" by the original's card, which a form keeps."""
    count = len(expected.probabilities)
    before, after = (
        [answer.none_of_these for answer in original.to_predictions(outputs, [""] * count, [()] * count)]
        for outputs in (expected, found)
    )
    return None if None in before else float(np.mean(np.array(before) != np.array(after)))
