"""Images in memory get the answer of their file; what is no image is refused with a list of what is taken."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.errors import UnsupportedInputError, UsageError
from belvedere.images.inputs import MAX_NAME_BYTES, read_paths, to_sources
from belvedere.inference.model import Model
from conftest import make_pixels, write_image


class Tensor:
    """An object that knows the array protocol only."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self._values


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("inputs") / "red.png", "red", 77, side=20)


FORMS: dict[str, Callable[[Path], object]] = {
    "path": lambda file: file,
    "name": str,
    "bytes": lambda file: file.read_bytes(),
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "memoryview": lambda file: memoryview(file.read_bytes()),
    "open file": lambda file: io.BytesIO(file.read_bytes()),
    "pillow": Image.open,
    "pillow, loaded": lambda file: Image.open(file).copy(),
    "array": lambda _: make_pixels("red", 77, 20),
    "array protocol": lambda _: Tensor(make_pixels("red", 77, 20)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("several", [False, True])
def test_every_form_gets_the_answer_of_the_file(form: str, several: bool, file: Path, opened: Model) -> None:
    [expected] = opened.predict(file)
    given = FORMS[form](file)
    answers = opened.predict([given, given] if several and form != "open file" else [given] if several else given)
    assert len(answers) == (2 if several and form != "open file" else 1)
    for answer in answers:
        assert answer.error is None
        assert answer.probabilities == expected.probabilities


def test_forms_can_be_mixed_and_come_from_a_generator(file: Path, opened: Model) -> None:
    answers = opened.predict(FORMS[form](file) for form in FORMS)
    assert len({answer.probabilities for answer in answers}) == 1
    assert len(answers) == len(FORMS)


def test_a_batch_is_several_images(opened: Model) -> None:
    answers = opened.predict(np.stack([make_pixels("red"), make_pixels("blue")]))
    assert [answer.predicted_label for answer in answers] == ["red", "blue"]


def test_gray_is_equal_in_the_three_colors(opened: Model) -> None:
    gray = np.arange(400, dtype=np.uint8).reshape(20, 20)
    [one], [three] = opened.predict(gray), opened.predict(np.repeat(gray[:, :, None], 3, axis=2))
    assert one.probabilities == three.probabilities


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_turned_and_laid_over_white_as_its_file_is(orientation: int, opened: Model) -> None:
    pixels = np.random.default_rng(orientation).integers(0, 255, (12, 20, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", exif=exif)
    [expected], [answer] = opened.predict(content.getvalue()), opened.predict(Image.open(content))
    assert answer.probabilities == expected.probabilities


def test_a_damaged_pillow_image_is_an_answer_with_an_error(file: Path, opened: Model) -> None:
    damaged = Image.open(io.BytesIO(file.read_bytes()[:60]))
    bad, good = opened.predict([damaged, file])
    assert bad.error
    assert good.error is None


def test_arrays_of_names_are_names(file: Path, opened: Model) -> None:
    assert [answer.error for answer in opened.predict(np.array([str(file), str(file)]))] == [None, None]


@pytest.mark.parametrize(
    "given",
    [
        "",
        None,
        3,
        {"image": b""},
        io.StringIO("a\nb"),
        [None],
        [["nested.png"]],
        np.zeros((8, 8, 3), np.float32),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'shape', '')}",
)
def test_what_is_no_image_is_a_type_error_that_lists_what_is_taken(given: object, opened: Model) -> None:
    with pytest.raises(UnsupportedInputError) as caught:
        opened.predict(given)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, belvedere.UsageError)
    assert "uint8" in str(caught.value)


def test_inputs_are_taken_as_they_are_needed() -> None:
    def endless() -> "object":
        while True:
            yield b"x"

    sources = to_sources(endless())
    assert [next(sources) for _ in range(3)] == [b"x"] * 3


@pytest.mark.parametrize(
    ("content", "separator", "names"),
    [
        (b"a.jpg\r\nb c.jpg\r\n", b"\n", ["a.jpg", "b c.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n\n\nb.jpg", b"\n", ["a.jpg", "b.jpg"]),
        (b"a\r.jpg\nb.jpg\r", b"\n", ["a\r.jpg", "b.jpg"]),
        (b"a\n.jpg\r\0\0b.jpg", b"\0", ["a\n.jpg\r", "b.jpg"]),
        (b"\r\n", b"\n", []),
        (b"", b"\0", []),
    ],
)
def test_lists_of_names(content: bytes, separator: bytes, names: list[str]) -> None:
    assert list(read_paths(io.BytesIO(content), separator)) == names


def _image_bytes(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
def test_an_image_is_no_list_of_names(kind: str, separator: bytes) -> None:
    with pytest.raises(UsageError, match="stdin"):
        next(read_paths(io.BytesIO(_image_bytes(kind)), separator))


@pytest.mark.parametrize(
    "content",
    [
        b"x" * (MAX_NAME_BYTES + 1),
        b"a\n" + b"x" * (MAX_NAME_BYTES + 1) + b"\nb\n",
        b"a.jpg\0b.jpg\0",
        "a.jpg\n".encode("utf-16"),
        _image_bytes("BMP"),
    ],
)
def test_what_is_no_list_of_names_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="stdin"):
        list(read_paths(io.BytesIO(content)))
