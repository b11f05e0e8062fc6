"""model.onnx opened: its card, and answers for pictures; and what its graph returns, checked.

Knows the model file and how to keep its cores busy with files; does not know torch, labels or figures of merit.
"""

import hashlib
import json
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InferenceError, InvalidImageError, InvalidModelError, UsageError
from belvedere.images.decode import DecodedImage, read_input
from belvedere.images.inputs import IN_MEMORY, Source, to_sources
from belvedere.images.listing import expand
from belvedere.images.resize import resize_image
from belvedere.inference.graph_checks import check_outputs
from belvedere.inference.model_card import card_from_metadata
from belvedere.inference.model_paths import (
    BUNDLED,
    MODEL_NAME,
    WHAT_TO_GIVE,
    explain_no_model,
    find_model,
    name_model,
    refuse_models,
)
from belvedere.inference.postprocess import Outputs, to_predictions
from belvedere.inference.session import MAX_REASON, Cancellation, Session
from belvedere.runtime.parallel import chunks_of, parallel_map
from belvedere.types.data import ModelId
from belvedere.types.model import ModelCard, Preprocess
from belvedere.types.prediction import Prediction

INPUT = "images"
OUTPUTS = ("logits", "probabilities", "embedding")
EVIDENCE, OUTLIER_SCORE = OPTIONAL_OUTPUTS = ("evidence", "outlier_score")  # models of older versions have none
BATCH = 32  # pictures that a thread reads and answers for at once: 16 are up to a tenth slower, 64 no quicker
PREFETCH_BATCHES = 16  # answered before they are asked for
MAX_FILE_BYTES = (1 << 31) - 1  # of protocol buffers


class Model:
    """A trained model: opened with `load`, asked with `predict`."""

    def __init__(
        self,
        session: Session,
        card: ModelCard | None,
        name: str,
        sha256: str,
        accept_rate: float | None = None,
    ) -> None:
        self._session = session
        self.sha256 = sha256  # of the file
        self._card = card
        self._num_classes = None if card is None else len(card.class_names)
        self.name = name
        self.accept_rate = accept_rate  # share of true pictures not called "none of these"; None for the card's

    @classmethod
    def from_bytes(cls, content: bytes, card: ModelCard | None, name: str = MODEL_NAME) -> "Model":
        """Opens a graph.

        Raises:
            InvalidModelError: These bytes are no ONNX graph, or one without the inputs and outputs of ours, or not the
                graph that the card describes, or hold what no model may hold.
        """
        session = Session(content, name)
        if list(session.inputs) != [INPUT] or not set(OUTPUTS) <= set(session.outputs):
            raise InvalidModelError(
                f"{name} is an ONNX model, but not one of Belvedere's: expected the input {INPUT} and the outputs "
                f"{', '.join(OUTPUTS)}. Received the outputs: {', '.join(session.outputs)[:MAX_REASON]}. {WHAT_TO_GIVE}"
            )
        if card is not None:
            _check_shapes(session, card, name)
        return cls(session, card, name, hashlib.sha256(content).hexdigest())

    @property
    def card(self) -> ModelCard:
        """What the model says about itself."""
        if self._card is None:
            raise InvalidModelError(f"{self.name} has no card: it was not written by Belvedere.")
        return self._card

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, in the order of the probabilities."""
        return self.card.class_names

    @property
    def identity(self) -> ModelId:
        """Which model this is, as outputs name it."""
        return ModelId(name_model(self.name), self.sha256)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the file says of itself, and how it is asked: the same where the answers are the same."""
        metadata = {**self._session.metadata, "accept_rate": self.accept_rate}
        return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()

    @property
    def embedding_dim(self) -> int:
        """D, how many numbers describe a picture.

        Raises:
            InvalidModelError: The graph leaves it open.
        """
        shape = self._session.outputs["embedding"]
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise InvalidModelError(
                f"{self.name} has an embedding of open size: expected (N, D). Received: {shape}. {WHAT_TO_GIVE}"
            )
        return shape[1]

    @property
    def has_activation_maps(self) -> bool:
        """Whether the graph says where in a picture it found what: at more than one place (see `explain`)."""
        shape = self._session.outputs.get(EVIDENCE)
        return shape is not None and shape[2:] != (1, 1)

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Runs the graph.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.

        Returns:
            Its outputs for the N pictures.

        Raises:
            InferenceError: The graph can't be run, or returns something else than such outputs.
        """
        return Outputs(**self._ask(OUTPUTS, images))

    def _ask(
        self, outputs: Sequence[str], images: NDArray[np.uint8], cancellation: Cancellation | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Computes some of the graph's outputs, a batch to each core at a time."""

        def ask(batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            given = {INPUT: np.ascontiguousarray(batch)}
            said = self._session.run(outputs, given, cancellation)
            try:
                named = dict(zip(outputs, said, strict=True))
                check_outputs(named, self._session.outputs, len(batch), self._num_classes)
            except ValueError as error:
                raise InferenceError(self.name, str(error)) from None
            return said

        if len(images) <= BATCH:
            return dict(zip(outputs, ask(images), strict=True))
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        parts = zip(*parallel_map(ask, batches, PREFETCH_BATCHES), strict=True)
        return {name: np.concatenate(part) for name, part in zip(outputs, parts, strict=True)}

    def explain(self, images: NDArray[np.uint8], cancellation: Cancellation | None = None) -> NDArray[np.float32]:
        """Says where in pictures the evidence for each class is.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.
            cancellation: Makes it fail.

        Returns:
            (N, K, h, w): the logits of each place of the network's last map; their mean over the places is the
            picture's logits. A network that tells no places, such as the article's, has one.

        Raises:
            InvalidModelError: The model was written by a version that had no evidence.
        """
        evidence = self.forward_all(images, cancellation).evidence
        if evidence is None:
            raise InvalidModelError(
                f"{self.name} holds no evidence by place: it is of an older version. Train it again."
            )
        return evidence

    def forward_all(self, images: NDArray[np.uint8], cancellation: Cancellation | None = None) -> Outputs:
        """Runs the graph once for all that it can say; what it can't is None. A cancellation makes it fail."""
        asked = [*OUTPUTS, *(name for name in OPTIONAL_OUTPUTS if name in self._session.outputs)]
        return Outputs(**self._ask(asked, images, cancellation))

    def predict(self, sources: object) -> list[Prediction]:
        """Answers for pictures.

        Args:
            sources: A path of a file or a folder (its pictures, and those in its folders), bytes of a file, an array
                (H, W, 3) or (H, W) of uint8 in RGB order, a PIL image, a binary file, or an iterable of these. Pixels
                in BGR order, as OpenCV reads them, can't be told from RGB: reverse them with `pixels[:, :, ::-1]`.

        Returns:
            One answer a picture, in order; a file that can't be read has its reason in `error`.

        Raises:
            UnsupportedInputError: Something else was given.
            UsageError: A model or a run folder without one was given as an image.
        """
        return list(self.stream(expand(refuse_models(to_sources(sources))), reduced=True))

    def stream(self, sources: Iterable[Source], *, reduced: bool = False) -> Iterator[Prediction]:
        """Answers for files one after the other, ahead of the caller and on every core, in memory that stays flat.

        Each thread reads a batch and runs it through the graph by itself, so that decoding and computing overlap and
        no core waits for another.

        Args:
            sources: Files, or their bytes; folders are not opened here (see `expand`). Taken as they are needed.
            reduced: Whether JPEGs much larger than the input are decoded at a reduced scale: see `read_input`.

        Returns:
            One answer a source, in order.
        """

        def answer(batch: list[Source]) -> list[Prediction]:
            return self.answer_batch(batch, reduced=reduced)

        return chain.from_iterable(parallel_map(answer, chunks_of(sources, BATCH), PREFETCH_BATCHES))

    def answer_batch(self, sources: Sequence[Source], *, reduced: bool = False) -> list[Prediction]:
        """Answers for a few files in the thread that asks, as `stream`."""
        outcomes = [(_name(source), _read(source, self.card.preprocess, reduced)) for source in sources]
        read = [(name, outcome) for name, outcome in outcomes if isinstance(outcome, DecodedImage)]
        answers = iter(self.answer([name for name, _ in read], [outcome for _, outcome in read]))
        return [
            Prediction(name, error=outcome.reason) if isinstance(outcome, InvalidImageError) else next(answers)
            for name, outcome in outcomes
        ]

    def answer(self, names: Sequence[str], pictures: Sequence[DecodedImage]) -> list[Prediction]:
        """Answers for pictures that have been read as the model's input."""
        if not pictures:
            return []
        try:
            outputs = self.forward_all(np.stack([picture.pixels for picture in pictures]))
        except InferenceError as error:
            error.add_note(f"The batch begins with the image {names[0]}.")
            raise
        return self.to_predictions(outputs, names, [picture.notes for picture in pictures])

    def to_predictions(
        self, outputs: Outputs, names: Sequence[str], notes: Sequence[tuple[str, ...]]
    ) -> list[Prediction]:
        """Makes answers of what the graph said of pictures."""
        return to_predictions(outputs, self.card, names, notes, self.accept_rate)


def _name(source: Source) -> str:
    return str(source) if isinstance(source, Path | str) else IN_MEMORY


def _read(source: Source, preprocess: Preprocess, reduced: bool) -> DecodedImage | InvalidImageError:
    if isinstance(source, InvalidImageError):
        return source
    if isinstance(source, DecodedImage):
        return DecodedImage(resize_image(source.pixels, preprocess), source.notes)
    try:
        return read_input(source, preprocess, reduced=reduced)
    except InvalidImageError as error:
        return error.detached()


def load(path: Path | str = BUNDLED, *, accept_rate: float | None = None) -> Model:
    """Opens a model.

    Args:
        path: A `model.onnx`, or the run folder that holds one; without, the model that comes with Belvedere, which
            tells buildings, forest, glacier, mountain, sea and street apart.
        accept_rate: Share of pictures of its classes that it does not call "none of these", 0 to 1, instead of the 0.95
            that it was made with: more accepts more of everything.

    Returns:
        The model, ready to answer.

    Raises:
        InvalidModelError: It isn't there, is damaged, or is no model of Belvedere's.
        UsageError: The accept rate is no share, or the model can't tell "none of these".
    """
    if accept_rate is not None and not 0 < accept_rate <= 1:
        raise UsageError(f"The accept rate is a share over 0 and up to 1, such as 0.95. Received: {accept_rate}.")
    if no_model := explain_no_model(path):
        raise InvalidModelError(no_model)
    try:
        file = find_model(path)
        content = _read_file(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidModelError(f"There is no model in {path}: {reason}. {WHAT_TO_GIVE}") from error
    return open_model(content, str(file), accept_rate)


def _read_file(file: Path) -> bytes:
    """Reads a regular file that is no larger than a model can be; a pipe or a device may have no end."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file.name} has {status.st_size:,} bytes, and a model at most {MAX_FILE_BYTES:,}")
    return file.read_bytes()


def open_model(content: bytes, name: str, accept_rate: float | None = None) -> Model:
    """Opens a model from the bytes of its file, as `load`; `name` is for messages."""
    plain = Model.from_bytes(content, None, name)
    card = card_from_metadata(plain._session.metadata, name)
    _check_shapes(plain._session, card, name)
    if accept_rate is not None and not card.trust.outlier_quantiles:
        raise UsageError(
            f"{name} can't tell what is none of its classes: leave out the accept rate, or train it again."
        )
    return Model(plain._session, card, name, plain.sha256, accept_rate)


def _check_shapes(session: Session, card: ModelCard, name: str) -> None:
    """Checks that the graph takes and gives what its card says; sizes that the graph leaves open fit any."""
    expected = {
        "input": (card.preprocess.height, card.preprocess.width, 3),
        "probabilities": (len(card.class_names),),
    }
    received = {"input": session.inputs[INPUT][1:], "probabilities": session.outputs["probabilities"][1:]}
    for what, sizes in expected.items():
        fits = [size == found or not isinstance(found, int) for size, found in zip(sizes, received[what], strict=False)]
        if len(received[what]) != len(sizes) or not all(fits):
            raise InvalidModelError(
                f"{name} has metadata that do not fit its graph: expected {what} of size {sizes}. "
                f"Received: {received[what]}. Train it again."
            )
