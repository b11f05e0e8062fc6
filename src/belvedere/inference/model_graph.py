"""The graph of a model file: its outputs for prepared images, and predictions for files and pixels, in batches."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InferenceError, InvalidImageError, InvalidModelError
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import Source, read_source, resize_borrowed, source_name
from belvedere.inference.graph_checks import check_outputs
from belvedere.inference.model_paths import HINT, MODEL_NAME
from belvedere.inference.postprocess import ModelOutputs, to_predictions
from belvedere.inference.providers import DeviceOptions
from belvedere.inference.session import Cancellation, Session
from belvedere.runtime.parallel import batched, parallel_map
from belvedere.runtime.terminal import MAX_REASON
from belvedere.runtime.thread_pool import ThreadPool
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction

INPUT = "images"
OUTPUTS = ("logits", "probabilities", "embedding")
CLASS_ACTIVATION_MAPS, OOD_SCORE = OPTIONAL_OUTPUTS = ("class_activation_maps", "ood_score")
BATCH_SIZE = 32  # images a thread: 16 are up to 10% slower, 64 no faster
PREFETCH_BATCHES = 16  # predicted ahead of the consumer

Result = TypeVar("Result")
# Receives the sources of a batch that were read, their pixels at the model's input size, and the outputs; in threads.
Observer = Callable[[Sequence[Source], Sequence[DecodedImage], ModelOutputs], None]


class ModelGraph:
    """The graph of a model with its card; the public class is `Model`."""

    def __init__(
        self, session: Session, card: ModelCard | None, content: bytes, options: DeviceOptions | None = None
    ) -> None:
        self._session = session
        self._card = card
        self._num_classes = None if card is None else len(card.class_names)
        self.content = content  # ONNX Runtime keeps the same object
        self.options = options or DeviceOptions("cpu")
        self._pool = ThreadPool(self.options.threads)
        self.name = session.name
        self.accept_rate: float | None = None

    @classmethod
    def from_bytes(
        cls, content: bytes, card: ModelCard | None, name: str = MODEL_NAME, options: DeviceOptions | None = None
    ) -> Self:
        """Open the bytes of a model file with a given card.

        Args:
            content: ONNX file.
            card: Metadata of the model; None: unknown, the metadata of the file are not read.
            name: Name for messages.
            options: Device and threads; default: the CPU, one thread per CPU that the process may use.

        Raises:
            InvalidModelError: The bytes are no ONNX graph, the graph has other inputs, outputs or shapes than the card,
                or unsafe content.
        """
        session = Session(content, name, options)
        if list(session.inputs) != [INPUT] or not set(OUTPUTS) <= set(session.outputs):
            raise InvalidModelError(
                f"{name} is an ONNX model, but not one of Belvedere's: expected the input {INPUT} and the outputs "
                f"{', '.join(OUTPUTS)}. Received the outputs: {', '.join(session.outputs)[:MAX_REASON]}. {HINT}"
            )
        if card is not None:
            check_shapes(session, card, name)
        return cls(session, card, content, options)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def _require_card(self) -> ModelCard:
        if self._card is None:
            raise InvalidModelError(f"{self.name} has no card: it was not written by Belvedere. {HINT}")
        return self._card

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
        arrays = zip(*parallel_map(run, batches, PREFETCH_BATCHES, pool=self._pool), strict=True)
        return {name: np.concatenate(each) for name, each in zip(outputs, arrays, strict=True)}

    def forward_activation_maps(
        self, images: NDArray[np.uint8], cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Compute the class activation maps, (N, K, h, w), of prepared images, (N, H, W, 3); see `forward`.

        Raises:
            InvalidModelError: The model has no class activation maps.
        """
        maps = self.forward_all(images, cancellation).class_activation_maps
        if maps is None:
            raise self._no_activation_maps()
        return maps

    def _no_activation_maps(self) -> InvalidModelError:
        return InvalidModelError(f"{self.name} has no class activation maps. Train it again.")

    def _compute(self, output: str, sources: Iterable[Source], draft: bool) -> list[NDArray[np.float32]]:
        """Return an output for all images, batch by batch; raise InvalidImageError for one that cannot be read."""
        preprocess = self._require_card().preprocess

        def compute(batch: list[Source]) -> NDArray[np.float32]:
            pixels = []
            for source in batch:
                outcome = read_source(source, preprocess, draft=draft)
                if isinstance(outcome, InvalidImageError):
                    raise outcome
                pixels.append(outcome.pixels)
            return self._run((output,), np.stack(pixels))[output]

        return list(self._map_batches(compute, sources))

    def predict_sources(
        self, sources: Iterable[Source], *, draft: bool = False, observer: Observer | None = None
    ) -> Iterator[Prediction]:
        """Predict files or images that `to_sources` returned, as `predict_iter`.

        Each thread decodes a batch and runs the graph on it, so decoding and inference overlap. A single batch is
        computed in the calling thread.

        Args:
            sources: Consumed lazily; folders are not expanded (see `iter_images`).
            draft: Whether to decode JPEGs much larger than the input at a reduced scale (see `read_input`).
            observer: Called with each batch.

        Returns:
            One prediction per source, in order.
        """

        def predict(batch: list[Source]) -> list[Prediction]:
            return self.predict_batch(batch, draft=draft, observer=observer)

        return chain.from_iterable(self._map_batches(predict, sources))

    def _map_batches(self, function: Callable[[list[Source]], Result], sources: Iterable[Source]) -> Iterator[Result]:
        batches = batched(resize_borrowed(sources, self._require_card().preprocess), BATCH_SIZE)
        first = list(islice(batches, 2))
        if len(first) < 2:
            yield from map(function, first)
        else:
            yield from parallel_map(function, chain(first, batches), PREFETCH_BATCHES, pool=self._pool)

    def predict_batch(
        self, sources: Sequence[Source], *, draft: bool = False, observer: Observer | None = None
    ) -> list[Prediction]:
        """Predict a few images in the calling thread, as one batch.

        Args:
            sources: Files, their bytes or pixels; folders are not expanded (see `iter_images`).
            draft: Whether to decode JPEGs much larger than the input at a reduced scale (see `read_input`).
            observer: Called with the batch.

        Returns:
            One prediction per source, in order.
        """
        preprocess = self._require_card().preprocess
        outcomes = [(source, read_source(source, preprocess, draft=draft)) for source in sources]
        decoded = [(source, outcome) for source, outcome in outcomes if isinstance(outcome, DecodedImage)]
        predictions = iter(
            self.predict_decoded([each for each, _ in decoded], [image for _, image in decoded], observer)
        )
        return [
            Prediction(source_name(source), error=outcome.reason, class_names=self._require_card().class_names)
            if isinstance(outcome, InvalidImageError)
            else next(predictions)
            for source, outcome in outcomes
        ]

    def predict_decoded(
        self, sources: Sequence[Source], images: Sequence[DecodedImage], observer: Observer | None = None
    ) -> list[Prediction]:
        """Predict images that were decoded to the model's input size.

        Args:
            sources: N sources, whose names the predictions have.
            images: N images with pixels (H, W, 3), RGB, of that size.
            observer: Called with the images and the outputs.
        """
        if not images:
            return []
        names = list(map(source_name, sources))
        try:
            outputs = self.forward_all(np.stack([image.pixels for image in images]))
        except InferenceError as error:
            error.add_note(f"The first image of the batch is {names[0]}.")
            raise
        if observer is not None:
            observer(sources, images, outputs)
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
        return to_predictions(outputs, self._require_card(), names, warnings, self.accept_rate)


def check_shapes(session: Session, card: ModelCard, name: str) -> None:
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
