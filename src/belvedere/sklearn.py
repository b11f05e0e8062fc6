"""An image classifier with the interface of scikit-learn, for cross-validation, grid search and pipelines.

>>> from belvedere.sklearn import ImageClassifier
>>> classifier = ImageClassifier("probe", random_state=0).fit(paths, labels)   # doctest: +SKIP
>>> classifier.predict(["fjord.jpg"])                                          # doctest: +SKIP
array(['sea'], dtype='<U3')
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.errors import InvalidImageError, UsageError, find_named
from belvedere.images.decode import DecodedImage
from belvedere.images.encode import to_png
from belvedere.images.inputs import Source, to_sources
from belvedere.inference.model import Model, open_model
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.dependencies import require
from belvedere.types.data import Sample

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ModuleNotFoundError:
    require("sklearn", "The estimator for scikit-learn")
    raise

MAX_SEED = 2**31 - 1


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of images that trains with a recipe.

    X holds n images: paths, or images in memory as `predict` takes them, such as an array (n, H, W, 3) of uint8 in RGB
    order, a list of arrays of any sizes, or PIL images. y holds n labels: texts or integers. Images that cannot be read
    are left out of a fit with a warning; a prediction for one raises InvalidImageError.

    Decoded images and embeddings are kept in Belvedere's cache by their content, so that the folds of a
    cross-validation share them. Nothing else stays on disk.

    Args:
        recipe: Name of a recipe, such as "probe" or "quick".
        random_state: Seed; None draws one. With an integer, a fit is reproducible.
        device: "auto", "cpu" or "cuda".
        offline: Whether to use downloaded pretrained weights only.
        augment: Function of pixels and a generator, as for `train`.
        **config: Keys of the recipe, such as epochs, network or weights; they are parameters as well.

    Attributes:
        classes_: (K,) labels, sorted, in the type of y.
        model_: The trained `Model`.
        model_bytes_: Content of its model.onnx.
    """

    def __init__(
        self,
        recipe: str = "probe",
        *,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        offline: bool = False,
        augment: Any = None,
        **config: Any,
    ) -> None:
        self.recipe = recipe
        self.random_state = random_state
        self.device = device
        self.offline = offline
        self.augment = augment
        for name, value in config.items():
            setattr(self, name, value)

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on n images.

        Args:
            X: n images.
            y: (n,) labels: texts, integers or booleans.

        Raises:
            BelvedereError: An image, a label or a parameter is invalid, or a class has too few images.
        """
        from belvedere.training.model_bytes import train_bytes

        classes, indices = _read_labels(y)
        names = _class_names(classes)
        seed = self.random_state
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            seed = check_random_state(seed).randint(MAX_SEED)
        with TemporaryDirectory(prefix="belvedere-") as folder:
            files = _to_files(_read_images(X), Path(folder))
            if len(files) != len(indices):
                raise UsageError(f"X has {len(files)} images and y has {len(indices)} labels. Give as many labels.")
            samples = tuple(
                Sample(path, name, names[index], None) for (path, name), index in zip(files, indices, strict=True)
            )
            self.model_bytes_, found = train_bytes(
                Dataset("images of fit", names, samples, ()),
                recipe=self.recipe,
                seed=int(seed),
                device=self.device,
                offline=self.offline,
                augment=self.augment,
                **self._config(),
            )
        for warning in found:
            warnings.warn(f"{warning.message}: {'; '.join(warning.names[:3])}", UserWarning, stacklevel=2)
        self.classes_ = classes
        self.model_: Model = open_model(self.model_bytes_, MODEL_NAME)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the calibrated probabilities of the classes, (n, K), in the order of `classes_`.

        Raises:
            InvalidImageError: An image cannot be read.
            UnsupportedInputError: X is no collection of images.
        """
        check_is_fitted(self, "model_bytes_")
        predictions = list(self.model_.predict_sources(_read_images(X), draft=True))
        for prediction in predictions:
            if prediction.error is not None:
                raise InvalidImageError(prediction.image, prediction.error)
        return np.array([prediction.probability_values for prediction in predictions])

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most probable class of each image, (n,), in the type of y."""
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all parameters by name, with the recipe keys that are set."""
        return {**super().get_params(deep), **self._config()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, among them any recipe key.

        Raises:
            UnknownNameError: There is no such parameter or key.
        """
        from belvedere.training.recipe_config import FIELDS

        known = dict.fromkeys([*self._get_param_names(), *FIELDS])
        for name, value in params.items():
            find_named("parameter", name, known)
            setattr(self, name, value)
        return self

    def _config(self) -> dict[str, Any]:
        """Return the recipe keys that are set: what is neither an argument of the constructor nor fitted."""
        explicit = self._get_param_names()
        return {
            name: value
            for name, value in vars(self).items()
            if name not in explicit and not name.startswith("_") and not name.endswith("_")
        }

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "model_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_bytes_" in state:
            self.model_ = open_model(state["model_bytes_"], MODEL_NAME)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _read_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the sorted labels, (K,), and the index of each image's label, (n,)."""
    if y is None:
        raise UsageError("y is missing. Give a label for each image.")
    labels = column_or_1d(np.asarray(y))
    if not len(labels):
        raise UsageError("X has no images. Give at least two of each class.")
    check_classification_targets(labels)
    try:
        classes, indices = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise UsageError(
            "y mixes labels of several types, such as texts and numbers. Give labels of one type."
        ) from error
    if len(classes) < 2:
        raise UsageError(f"y has one class only: {classes[0]!r}. Give images of two or more classes.")
    return classes, indices


def _class_names(classes: NDArray[Any]) -> tuple[str, ...]:
    """Return a name for each class, in which no two are equal and none is empty."""
    names = tuple(str(label) for label in classes)
    return names if all(names) and len(set(names)) == len(names) else tuple(f"class {k}" for k in range(len(names)))


def _read_images(given: Any) -> list[Source]:
    """Return the images of a collection.

    Raises:
        UnsupportedInputError: The collection contains something that is no image.
        UsageError: It is empty, or one image.
    """
    if isinstance(given, str | bytes | Path) or not isinstance(given, Iterable):
        raise UsageError(
            f"X must be a collection of images. Received: {type(given).__name__}. Put one image in a list."
        )
    images = list(to_sources(given))
    if not images:
        raise UsageError("X has no images. Give at least one.")
    return images


def _to_files(images: Sequence[Source], folder: Path) -> list[tuple[Path, str]]:
    """Return a file and a name of each image; those in memory are written into the folder."""
    files = []
    for number, image in enumerate(images):
        if isinstance(image, InvalidImageError):
            raise InvalidImageError(f"image {number}", image.reason)
        if isinstance(image, Path | str):
            files.append((Path(image), str(image)))
            continue
        file = folder / f"{number}.png"
        file.write_bytes(to_png(image.pixels) if isinstance(image, DecodedImage) else image)
        files.append((file, f"image {number}"))
    return files
