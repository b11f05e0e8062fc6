"""The estimator for scikit-learn."""

import copy
import io
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from belvedere.errors import BelvedereError, InvalidImageError, UnsupportedInputError, UsageError
from belvedere.inference.model import load_model
from belvedere.sklearn import ImageClassifier

SETTINGS: dict[str, Any] = {
    "min_steps": 0,
    "epochs": 2,
    "batch_size": 8,
    "image_size": 32,
    "image_size_schedule": ((0.0, 32),),
}


def classifier(**changes: Any) -> ImageClassifier:
    return ImageClassifier("quick", random_state=0, **SETTINGS | changes)


@pytest.fixture(scope="module")
def arrays() -> NDArray[np.uint8]:
    """Twenty images, (20, 24, 24, 3), blue and red in turns."""
    random = np.random.default_rng(0)
    colors = np.array([(40, 60, 200), (200, 60, 40)] * 10)[:, None, None]
    return np.clip(colors + random.integers(-40, 40, (20, 24, 24, 3)), 0, 255).astype(np.uint8)


TEXTS = np.array(["sea", "fire"] * 10)


@pytest.fixture(scope="module")
def fitted(arrays: NDArray[np.uint8]) -> ImageClassifier:
    return classifier().fit(arrays, TEXTS)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_predictions_have_the_type_of_the_labels(fitted: ImageClassifier, arrays: NDArray[np.uint8]) -> None:
    assert fitted.classes_.tolist() == ["fire", "sea"]
    probabilities = fitted.predict_proba(arrays)
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (fitted.predict(arrays) == fitted.classes_[probabilities.argmax(1)]).all()
    assert fitted.predict(arrays).dtype == TEXTS.dtype
    assert fitted.score(arrays, TEXTS) == (fitted.predict(arrays) == TEXTS).mean()


def test_integers_are_sorted_as_numbers(arrays: NDArray[np.uint8], temporary: Path) -> None:
    labels = np.array([10, 9] * 10, np.int16)
    numbers = classifier().fit(list(arrays), labels)
    assert numbers.classes_.tolist() == [9, 10]
    assert numbers.predict(arrays[:2]).dtype == np.int16
    assert numbers.model_.class_names == ("9", "10")
    assert list(temporary.iterdir()) == []


def test_kinds_of_images_are_equal(fitted: ImageClassifier, arrays: NDArray[np.uint8], tmp_path: Path) -> None:
    files = []
    for number, pixels in enumerate(arrays):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    kinds: list[Any] = [
        list(arrays),
        [Image.fromarray(pixels) for pixels in arrays],
        files,
        [str(file) for file in files],
        np.array([str(file) for file in files]),
        [file.read_bytes() for file in files],
    ]
    expected = fitted.predict_proba(arrays)
    for kind in kinds:
        assert (fitted.predict_proba(kind) == expected).all()
    again = classifier().fit(list(arrays), TEXTS)
    assert (again.predict_proba(arrays) == expected).all()


def test_pickles_and_copies_predict_the_same(
    fitted: ImageClassifier, arrays: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = fitted.predict_proba(arrays)
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):  # noqa: S301
        assert (other.predict_proba(arrays) == expected).all()
    (tmp_path / "model.onnx").write_bytes(fitted.model_bytes_)
    assert load_model(tmp_path / "model.onnx").class_names == ("fire", "sea")


def test_parameters_are_got_set_and_cloned() -> None:
    estimator = classifier(epochs=3)
    assert estimator.get_params()["epochs"] == 3
    assert clone(estimator).get_params() == estimator.get_params()
    estimator.set_params(learning_rate=0.5, recipe="standard")
    assert estimator.get_params()["learning_rate"] == 0.5
    assert estimator.recipe == "standard"
    with pytest.raises(ValueError, match="epochs"):
        estimator.set_params(epoks=3)
    assert "epochs=3" in repr(estimator)
    assert "random_state" in ImageClassifier().get_params()


def test_grid_search_with_cross_validation_and_pipeline(arrays: NDArray[np.uint8]) -> None:
    steps = [("mirror", FunctionTransformer(lambda images: images[:, :, ::-1])), ("classify", classifier(epochs=1))]
    search = GridSearchCV(Pipeline(steps), {"classify__batch_size": [6]}, cv=2, error_score="raise")
    search.fit(arrays, TEXTS)
    assert search.best_params_ == {"classify__batch_size": 6}
    assert len(search.cv_results_["mean_test_score"]) == 1
    assert set(search.predict(arrays)) <= {"fire", "sea"}


def test_a_random_state_draws_the_seed(fitted: ImageClassifier, arrays: NDArray[np.uint8]) -> None:
    drawing = classifier(epochs=1).set_params(random_state=np.random.RandomState(5)).fit(arrays, TEXTS)
    assert drawing.model_.card.provenance.seed == np.random.RandomState(5).randint(2**31 - 1)
    assert fitted.model_.card.provenance.seed == fitted.random_state == 0


def test_images_that_cannot_be_read(arrays: NDArray[np.uint8], fitted: ImageClassifier, temporary: Path) -> None:
    torn = io.BytesIO()
    Image.fromarray(arrays[0]).save(torn, "PNG")
    images = [torn.getvalue()[:40], *arrays[1:]]
    with pytest.warns(UserWarning, match="image 0"):
        classifier(epochs=1).fit(images, TEXTS)
    with pytest.raises(InvalidImageError):
        fitted.predict(images)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "labels", "error"),
    [
        (slice(20), TEXTS[:19], UsageError),
        (slice(0), TEXTS[:0], UsageError),
        (slice(20), ["sea"] * 20, UsageError),
        (slice(20), None, UsageError),
        (slice(20), ["sea"] * 17 + ["fire"] * 3, BelvedereError),
        (slice(20), np.linspace(0, 1, 20), ValueError),
        (slice(20), TEXTS.reshape(10, 2), ValueError),
        (slice(20), np.array([1, "sea"] * 10, object), ValueError),
    ],
    ids=["lengths", "empty", "one class", "missing", "too few", "regression", "shape", "types"],
)
def test_impossible_labels_are_refused(
    images: slice, labels: Any, error: type[Exception], arrays: NDArray[np.uint8]
) -> None:
    with pytest.raises(error):
        classifier().fit(arrays[images], labels)


@pytest.mark.parametrize(
    "changes", [{"network": "article"}, {"freeze": 1}, {"unlabeled": "nowhere", "teacher": "nowhere"}]
)
def test_impossible_recipes_are_refused(changes: dict[str, Any], arrays: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError):
        classifier(**changes).fit(arrays, TEXTS)


def test_a_negative_seed_is_refused(arrays: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError):
        ImageClassifier("quick", random_state=-1, **SETTINGS).fit(arrays, TEXTS)


@pytest.mark.parametrize("images", ["a.jpg", np.zeros((20, 5)), [None] * 20, 5, {"a": 1}, [], [[1.0, 2.0]] * 20])
def test_what_is_no_collection_of_images_is_refused(images: Any, fitted: ImageClassifier) -> None:
    with pytest.raises((UsageError, UnsupportedInputError)):
        fitted.predict(images)
    with pytest.raises((UsageError, UnsupportedInputError)):
        classifier().fit(images, TEXTS)


def test_an_estimator_must_be_fitted(arrays: NDArray[np.uint8]) -> None:
    with pytest.raises(NotFittedError):
        ImageClassifier().predict(arrays)
    with pytest.raises(UsageError, match="epoks"):
        ImageClassifier("quick", epoks=1).fit(arrays, TEXTS)


# The other checks fit tables of numbers with two dimensions, which are no images.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_get_tags_default_keys",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn(check: str) -> None:
    if not hasattr(estimator_checks, check):
        pytest.skip("not in this version of scikit-learn")
    getattr(estimator_checks, check)("ImageClassifier", ImageClassifier())
