"""Model files: opening them, and predictions for images."""

import hashlib
import json
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InferenceError, InvalidImageError, InvalidModelError, UsageError
from belvedere.images.decode import IN_MEMORY, DecodedImage, read_input
from belvedere.images.inputs import Source, to_sources
from belvedere.images.listing import iter_images
from belvedere.images.resize import resize_image
from belvedere.inference.graph_checks import check_outputs
from belvedere.inference.model_card import card_from_metadata
from belvedere.inference.model_paths import (
    BUNDLED,
    HINT,
    MODEL_NAME,
    explain_no_model,
    model_file,
    name_model,
    refuse_models,
)
from belvedere.inference.postprocess import ModelOutputs, to_predictions
from belvedere.inference.session import Cancellation, Session
from belvedere.runtime.parallel import batched, parallel_map
from belvedere.runtime.terminal import MAX_REASON, describe_error
from belvedere.types.data import ModelId
from belvedere.types.model import ModelCard, Preprocess
from belvedere.types.prediction import Prediction

INPUT = "images"
OUTPUTS = ("logits", "probabilities", "embedding")
CLASS_ACTIVATION_MAPS, OOD_SCORE = OPTIONAL_OUTPUTS = ("class_activation_maps", "ood_score")
BATCH_SIZE = 32  # images a thread: 16 are up to 10% slower, 64 no faster
PREFETCH_BATCHES = 16  # predicted ahead of the consumer
MAX_FILE_BYTES = (1 << 31) - 1  # of protocol buffers


class Model:
    """A trained model, opened with `load_model`.

    Attributes:
        name: Path of the file, for messages.
        sha256: SHA-256 of the file, hexadecimal.
        accept_rate: Fraction of in-distribution images that are not "none of these"; None: the card's.
    """

    def __init__(
        self, session: Session, card: ModelCard | None, name: str, sha256: str, accept_rate: float | None = None
    ) -> None:
        self._session = session
        self._card = card
        self._num_classes = None if card is None else len(card.class_names)
        self.name = name
        self.sha256 = sha256
        self.accept_rate = accept_rate

    @classmethod
    def from_bytes(cls, content: bytes, card: ModelCard | None, name: str = MODEL_NAME) -> "Model":
        """Open the bytes of a model file with a given card.

        Args:
            content: ONNX file.
            card: Metadata of the model; None: unknown, the metadata of the file are not read.
            name: Name for messages.

        Raises:
            InvalidModelError: The bytes are no ONNX graph, the graph has other inputs, outputs or shapes than the card,
                or unsafe content.
        """
        session = Session(content, name)
        if list(session.inputs) != [INPUT] or not set(OUTPUTS) <= set(session.outputs):
            raise InvalidModelError(
                f"{name} is an ONNX model, but not one of Belvedere's: expected the input {INPUT} and the outputs "
                f"{', '.join(OUTPUTS)}. Received the outputs: {', '.join(session.outputs)[:MAX_REASON]}. {HINT}"
            )
        if card is not None:
            _check_shapes(session, card, name)
        return cls(session, card, name, hashlib.sha256(content).hexdigest())

    @property
    def card(self) -> ModelCard:
        """The metadata of the model.

        Raises:
            InvalidModelError: The model was opened without a card.
        """
        if self._card is None:
            raise InvalidModelError(f"{self.name} has no card: it was not written by Belvedere. {HINT}")
        return self._card

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, in the order of the probabilities."""
        return self.card.class_names

    @property
    def identity(self) -> ModelId:
        """Name and hash of the model, for outputs."""
        return ModelId(name_model(self.name), self.sha256)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over metadata and accept rate; models with the same fingerprint give the same predictions."""
        metadata = {**self._session.metadata, "accept_rate": self.accept_rate}
        return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()

    @property
    def embedding_dim(self) -> int:
        """D, the number of dimensions of the embedding.

        Raises:
            InvalidModelError: The graph does not state it.
        """
        shape = self._session.outputs["embedding"]
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise InvalidModelError(
                f"{self.name} has an embedding of open size: expected (N, D). Received: {shape}. {HINT}"
            )
        return shape[1]

    @property
    def has_activation_maps(self) -> bool:
        """Whether the class activation maps have more than one position (see `class_activation_maps`)."""
        shape = self._session.outputs.get(CLASS_ACTIVATION_MAPS)
        return shape is not None and shape[2:] != (1, 1)

    def forward(self, images: NDArray[np.uint8]) -> ModelOutputs:
        """Compute logits, probabilities and embeddings.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.

        Returns:
            The outputs; the optional ones are None.

        Raises:
            InferenceError: The graph fails or returns invalid outputs.
        """
        return ModelOutputs(**self._run(OUTPUTS, images))

    def forward_all(self, images: NDArray[np.uint8], cancellation: Cancellation | None = None) -> ModelOutputs:
        """Compute all outputs that the model has.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.
            cancellation: Stops the run.

        Returns:
            The outputs; those that the model does not have are None.

        Raises:
            InferenceError: The graph fails or returns invalid outputs, or the run was cancelled.
        """
        names = [*OUTPUTS, *(name for name in OPTIONAL_OUTPUTS if name in self._session.outputs)]
        return ModelOutputs(**self._run(names, images, cancellation))

    def _run(
        self, outputs: Sequence[str], images: NDArray[np.uint8], cancellation: Cancellation | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Compute some outputs, one batch a core at a time."""

        def run(batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            arrays = self._session.run(outputs, {INPUT: np.ascontiguousarray(batch)}, cancellation)
            try:
                named = dict(zip(outputs, arrays, strict=True))
                check_outputs(named, self._session.outputs, len(batch), self._num_classes)
            except ValueError as error:
                raise InferenceError(self.name, str(error)) from None
            return arrays

        if len(images) <= BATCH_SIZE:
            return dict(zip(outputs, run(images), strict=True))
        batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
        arrays = zip(*parallel_map(run, batches, PREFETCH_BATCHES), strict=True)
        return {name: np.concatenate(each) for name, each in zip(outputs, arrays, strict=True)}

    def class_activation_maps(
        self, images: NDArray[np.uint8], cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Compute class activation maps (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.
            cancellation: Stops the run.

        Returns:
            (N, K, h, w): logits by position of the last feature map. Their spatial mean is the image's logits. Networks
            without spatial features, such as the article's, have a single position.

        Raises:
            InvalidModelError: The model has no class activation maps.
        """
        maps = self.forward_all(images, cancellation).class_activation_maps
        if maps is None:
            raise InvalidModelError(f"{self.name} has no class activation maps. Train it again.")
        return maps

    def predict(self, sources: object) -> list[Prediction]:
        """Predict images.

        Args:
            sources: Path of a file or folder (searched recursively), bytes of a file, array (H, W, 3) or (H, W) of
                uint8 in RGB order, PIL image, binary file, or an iterable of these. BGR pixels, as OpenCV reads them,
                must be reversed: `pixels[:, :, ::-1]`.

        Returns:
            One prediction per image, in order; an unreadable image has the reason in `error`.

        Raises:
            UnsupportedInputError: An object is of another kind.
            UsageError: A path is a model, or a run folder.
        """
        return list(self.predict_iter(iter_images(refuse_models(to_sources(sources))), draft=True))

    def predict_iter(self, sources: Iterable[Source], *, draft: bool = False) -> Iterator[Prediction]:
        """Predict images as a stream, ahead of the consumer, on all cores, in constant memory.

        Each thread decodes a batch and runs the graph on it, so decoding and inference overlap.

        Args:
            sources: Files or their bytes, consumed lazily; folders are not expanded (see `iter_images`).
            draft: Whether to decode JPEGs much larger than the input at a reduced scale (see `read_input`).

        Returns:
            One prediction per source, in order.
        """

        def predict(batch: list[Source]) -> list[Prediction]:
            return self.predict_batch(batch, draft=draft)

        return chain.from_iterable(parallel_map(predict, batched(sources, BATCH_SIZE), PREFETCH_BATCHES))

    def predict_batch(self, sources: Sequence[Source], *, draft: bool = False) -> list[Prediction]:
        """Predict a few images in the calling thread, as one batch.

        Args:
            sources: Files or their bytes; folders are not expanded (see `iter_images`).
            draft: Whether to decode JPEGs much larger than the input at a reduced scale (see `read_input`).

        Returns:
            One prediction per source, in order.
        """
        outcomes = [(source_name(source), _read(source, self.card.preprocess, draft)) for source in sources]
        decoded = [(name, outcome) for name, outcome in outcomes if isinstance(outcome, DecodedImage)]
        predictions = iter(self.predict_decoded([name for name, _ in decoded], [image for _, image in decoded]))
        return [
            Prediction(name, error=outcome.reason) if isinstance(outcome, InvalidImageError) else next(predictions)
            for name, outcome in outcomes
        ]

    def predict_decoded(self, names: Sequence[str], images: Sequence[DecodedImage]) -> list[Prediction]:
        """Predict images that were decoded to the model's input size.

        Args:
            names: N names, for the predictions.
            images: N images with pixels (H, W, 3), RGB, of that size.
        """
        if not images:
            return []
        try:
            outputs = self.forward_all(np.stack([image.pixels for image in images]))
        except InferenceError as error:
            error.add_note(f"The first image of the batch is {names[0]}.")
            raise
        return self.to_predictions(outputs, names, [image.warnings for image in images])

    def to_predictions(
        self, outputs: ModelOutputs, names: Sequence[str], warnings: Sequence[tuple[str, ...]]
    ) -> list[Prediction]:
        """Convert outputs to predictions.

        Args:
            outputs: Outputs for N images.
            names: N names, for the predictions.
            warnings: N tuples with the warnings of each image's decoding.

        Returns:
            N predictions, in order.
        """
        return to_predictions(outputs, self.card, names, warnings, self.accept_rate)


def source_name(source: Source) -> str:
    """Return the name of an image: its path, if it has one."""
    return str(source) if isinstance(source, Path | str) else IN_MEMORY


def _read(source: Source, preprocess: Preprocess, draft: bool) -> DecodedImage | InvalidImageError:
    if isinstance(source, InvalidImageError):
        return source
    if isinstance(source, DecodedImage):
        return DecodedImage(resize_image(source.pixels, preprocess), source.warnings)
    try:
        return read_input(source, preprocess, draft=draft)
    except InvalidImageError as error:
        return error.detached()


def load_model(path: Path | str = BUNDLED, *, accept_rate: float | None = None) -> Model:
    """Open a model.

    Args:
        path: A `model.onnx`, or the run folder that holds one; default: the bundled model, with the classes buildings,
            forest, glacier, mountain, sea and street.
        accept_rate: Fraction of in-distribution images that are not "none of these" (true-positive rate), 0 to 1;
            default: the model's, 0.95.

    Returns:
        The model.

    Raises:
        InvalidModelError: The file does not exist, is damaged, or is not a model of Belvedere.
        UsageError: The accept rate is not in (0, 1], or the model has no out-of-distribution score.
    """
    if accept_rate is not None and not 0 < accept_rate <= 1:
        raise UsageError(f"`accept_rate` must be over 0 and at most 1, such as 0.95. Received: {accept_rate}.")
    if reason := explain_no_model(path):
        raise InvalidModelError(reason)
    try:
        file = model_file(path)
        content = _read_file(file)
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"There is no model in {path}: {describe_error(error)}. {HINT}") from error
    return open_model(content, str(file), accept_rate)


def as_model(model: Model | Path | str, accept_rate: float | None = None) -> Model:
    """Return a model; a path is opened with `load_model`."""
    return model if isinstance(model, Model) else load_model(model, accept_rate=accept_rate)


def _read_file(file: Path) -> bytes:
    """Read a regular file of limited size: a pipe or device may be endless."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{file.name} has {status.st_size:,} bytes, and a model at most {MAX_FILE_BYTES:,}")
    return file.read_bytes()


def open_model(content: bytes, name: str, accept_rate: float | None = None) -> Model:
    """Open a model from the bytes of its file; see `load_model`. `name` is for messages."""
    plain = Model.from_bytes(content, None, name)
    card = card_from_metadata(plain._session.metadata, name)
    _check_shapes(plain._session, card, name)
    if accept_rate is not None and not card.uncertainty.ood_score_quantiles:
        raise UsageError(f"{name} has no out-of-distribution score. Leave out `accept_rate`, or train it again.")
    return Model(plain._session, card, name, plain.sha256, accept_rate)


def _check_shapes(session: Session, card: ModelCard, name: str) -> None:
    """Check input and output shapes against the card; open sizes match any."""
    expected = {
        "input": (card.preprocess.height, card.preprocess.width, 3),
        "probabilities": (len(card.class_names),),
    }
    received = {"input": session.inputs[INPUT][1:], "probabilities": session.outputs["probabilities"][1:]}
    for key, sizes in expected.items():
        fits = [size == found or not isinstance(found, int) for size, found in zip(sizes, received[key], strict=False)]
        if len(received[key]) != len(sizes) or not all(fits):
            raise InvalidModelError(
                f"{name} has metadata that do not fit its graph: expected {key} of size {sizes}. "
                f"Received: {received[key]}. Train it again."
            )
