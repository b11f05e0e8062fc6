"""Model files: opening them, and predictions for images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidModelError, UsageError
from belvedere.images.inputs import Source, to_sources
from belvedere.images.listing import iter_images
from belvedere.inference.display import describe_model, model_html
from belvedere.inference.model_card import card_from_metadata
from belvedere.inference.model_graph import CLASS_ACTIVATION_MAPS, ModelGraph, check_shapes
from belvedere.inference.model_paths import (
    BUNDLED,
    HINT,
    explain_no_model,
    local_path,
    model_file,
    name_model,
    read_model_file,
    refuse_models,
)
from belvedere.inference.predictions import Predictions, keep_shown
from belvedere.inference.providers import DeviceOptions, Provider
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import ModelId
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction


class Model(ModelGraph):
    """A trained model, opened with `load_model`.

    It may be used in several threads at a time, after a fork, and in `asyncio.to_thread`; it can be pickled. Its own
    threads start when they are first needed, and end with `close`, at the end of a `with` block, or with the model.

    Attributes:
        name: Path of the file, for messages.
        content: Bytes of the file as it was opened.
        sha256: SHA-256 of the file, hexadecimal.
        accept_rate: Fraction of in-distribution images that are not "none of these"; None: the card's.
        options: Device and number of threads, as given to `load_model`.
    """

    def __reduce__(self) -> tuple[object, ...]:
        state = {"accept_rate": self.accept_rate}
        return Model.from_bytes, (self.content, self._card, self.name, self.options), state

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {describe_model(self._card, self.sha256)})"

    def _repr_html_(self) -> str:
        return model_html(self.name, self.sha256, self._card)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads of the model; the next call that needs some starts new ones."""
        self._pool.close()

    @property
    def card(self) -> ModelCard:
        """The metadata of the model.

        Raises:
            InvalidModelError: The model was opened without a card.
        """
        return self._require_card()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, in the order of the probabilities."""
        return self.card.class_names

    @property
    def identity(self) -> ModelId:
        """Name and hash of the model, for outputs."""
        return ModelId(name_model(self.name), self.sha256)

    def to_dict(self) -> dict[str, Any]:
        """Return name, hash, execution providers and card, ready for JSON."""
        return {"name": self.name, "sha256": self.sha256, "providers": list(self.providers), "card": asdict(self.card)}

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers of ONNX Runtime that the model runs on, in order of preference."""
        return self._session.providers

    def class_activation_maps(
        self, images: object, *, channel_order: str = "RGB", draft: bool = True
    ) -> NDArray[np.float32]:
        """Compute class activation maps (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).

        Args:
            images: As `predict`.
            channel_order: As `predict`.
            draft: As `predict`.

        Returns:
            (N, K, h, w): logits by position of the last feature map. Their spatial mean is the image's logits. Networks
            without spatial features, such as the article's, have a single position.

        Raises:
            InvalidImageError: An image cannot be read.
            InvalidModelError: The model has no class activation maps.
            UnsupportedInputError: An object is of another kind.
            UsageError: There are no images, a path is a model, or a run folder.
        """
        if CLASS_ACTIVATION_MAPS not in self._session.outputs:
            raise self._no_activation_maps()
        found = self._compute(CLASS_ACTIVATION_MAPS, self._expand(images, channel_order), draft)
        if not found:
            raise UsageError("No images. Give one or more.")
        return np.concatenate(found)

    def embed(self, images: object, *, channel_order: str = "RGB", draft: bool = True) -> NDArray[np.float32]:
        """Compute embeddings: the features before the classifier, for search, clustering and other classifiers.

        Args:
            images: As `predict`.
            channel_order: As `predict`.
            draft: As `predict`.

        Returns:
            (N, D), one row per image, in order.

        Raises:
            InvalidImageError: An image cannot be read.
            UnsupportedInputError: An object is of another kind.
            UsageError: A path is a model, or a run folder.
        """
        found = self._compute("embedding", self._expand(images, channel_order), draft)
        return np.concatenate([np.zeros((0, self.embedding_dim), np.float32), *found])

    def predict(self, images: object, *, channel_order: str = "RGB", draft: bool = True) -> Predictions:
        """Predict images.

        Args:
            images: Path of a file or folder (searched recursively), bytes of a file, array or CPU tensor (H, W, 3) or
                (H, W) of uint8, PIL image, binary file, or an iterable of these.
            channel_order: "RGB", or "BGR", as OpenCV reads images: the order of the channels of arrays and tensors,
                which cannot be detected. Other inputs have their own.
            draft: Whether to decode JPEG files much larger than the model's input at a reduced scale, which is several
                times faster and changes pixels by a level or two. Without it, a file and the pixels of `read_image`
                have the same prediction, to the last bit.

        Returns:
            One prediction per image, in order; an unreadable image has the reason in `error`.

        Raises:
            UnsupportedInputError: An object is of another kind.
            UsageError: A path is a model, or a run folder.
        """
        shown: list[Source | None] = []
        sources = keep_shown(self._expand(images, channel_order), shown)
        found = self.predict_sources(sources, draft=draft)
        return Predictions(found, self.class_names, self.identity, shown)

    def predict_iter(self, images: object, *, channel_order: str = "RGB", draft: bool = True) -> Iterator[Prediction]:
        """Predict images as a stream, ahead of the consumer, on all cores, in constant memory.

        Args:
            images: As `predict`; an iterable is consumed as its images are needed.
            channel_order: As `predict`.
            draft: As `predict`.

        Returns:
            One prediction per image, in order.

        Raises:
            UnsupportedInputError: As `predict`, and UsageError, when the object in question is reached.
        """
        return self.predict_sources(self._expand(images, channel_order), draft=draft)

    def _expand(self, images: object, channel_order: str) -> Iterator[Source]:
        return iter_images(refuse_models(to_sources(images, channel_order)))


def load_model(
    path: Path | str = BUNDLED,
    *,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
) -> Model:
    """Open a model.

    Args:
        path: A `model.onnx`, the run folder that holds one, or a model on the Hugging Face Hub, as
            "hf://user/name@revision" (docs/hub.md); default: the bundled model, with the classes buildings, forest,
            glacier, mountain, sea and street.
        accept_rate: Fraction of in-distribution images that are not "none of these" (true-positive rate), 0 to 1;
            default: the model's, 0.95.
        device: "auto": a GPU if the package onnxruntime-gpu and its CUDA libraries are installed, else the CPU; "cpu";
            or "cuda".
        providers: Execution providers of ONNX Runtime in order of preference, in place of `device`: names, or names
            with options.
        threads: Number of threads, each of which decodes and runs the model on a batch; default: one per CPU that the
            process may use.

    Returns:
        The model.

    Raises:
        InvalidModelError: The file does not exist, is damaged, or is not a model of Belvedere.
        HubError: The model cannot be downloaded.
        UsageError: The accept rate is not in (0, 1], the model has no out-of-distribution score, the number of threads
            is not positive, or the device cannot be used.
        UnknownNameError: There is no such device or provider.
    """
    options = DeviceOptions(device, providers, threads)
    if accept_rate is not None and not 0 < accept_rate <= 1:
        raise UsageError(f"`accept_rate` must be over 0 and at most 1, such as 0.95. Received: {accept_rate}.")
    path = local_path(path)
    if reason := explain_no_model(path):
        raise InvalidModelError(reason)
    try:
        file = model_file(path)
        content = read_model_file(file)
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"There is no model in {path}: {describe_error(error)}. {HINT}") from error
    return open_model(content, str(file), accept_rate, options)


def as_model(
    model: Model | Path | str,
    *,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
) -> Model:
    """Return a model; a path is opened with `load_model`.

    Raises:
        UsageError: A device, providers or threads are given for a model that is open already.
    """
    if not isinstance(model, Model):
        return load_model(model, device=device, providers=providers, threads=threads)
    if DeviceOptions(device, providers, threads) != DeviceOptions():
        raise UsageError(
            "`device`, `providers` and `threads` are for a model that is opened. "
            f"Received: {model!r}. Give them to `load_model`, or give the path of the model."
        )
    return model


def open_model(
    content: bytes, name: str, accept_rate: float | None = None, options: DeviceOptions | None = None
) -> Model:
    """Open a model from the bytes of its file; see `load_model`. `name` is for messages."""
    plain = Model.from_bytes(content, None, name, options)
    card = card_from_metadata(plain._session.metadata, name)
    check_shapes(plain._session, card, name)
    if accept_rate is not None and not card.uncertainty.ood_score_quantiles:
        raise UsageError(f"{name} has no out-of-distribution score. Leave out `accept_rate`, or train it again.")
    model = Model(plain._session, card, content, options)
    model.accept_rate = accept_rate
    return model
