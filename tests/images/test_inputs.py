"""Images in memory get the answer of their file; what is no image is refused with a list of what is taken."""

import array
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

import belvedere
import odd_files
from belvedere.errors import InvalidImageError, UnsupportedInputError, UsageError
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import MAX_NAME_BYTES, read_inputs, read_paths, to_sources
from belvedere.inference.model import Model
from belvedere.runtime.parallel import PREFETCH
from belvedere.types.model import Preprocess
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
    assert len({answer.probability_values for answer in answers}) == 1
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


@pytest.mark.parametrize("size", [(0, 0), (8, 0), (0, 8)])
def test_a_pillow_image_without_pixels_is_refused_as_an_array_is(size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedInputError, match=f"{size[0]} x {size[1]} pixels"):
        list(to_sources([Image.new("RGB", size)]))


class CudaTensor(Tensor):
    """A tensor on a GPU, as the array protocol sees it."""

    device = "cuda:0"

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (np.zeros((8, 8, 3), np.float32), "round().astype(np.uint8)"),
        (np.zeros((3, 8, 8), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((8, 8, 4), np.uint8), "[:, :, :3]"),
        (np.zeros((8, 8, 1), np.uint8), "[:, :, 0]"),
        (np.zeros((8, 8, 3), np.int64), "Convert to uint8"),
        (np.array([b"x"]), "a list of bytes"),
        (CudaTensor(make_pixels("red")), ".cpu()"),
        ([CudaTensor(make_pixels("red"))], ".cpu()"),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'shape', '')}",
)
def test_an_array_of_another_kind_comes_with_what_to_do(given: object, advice: str, opened: Model) -> None:
    for call in (opened.predict, opened.embed, lambda images: list(opened.predict_iter(images))):
        with pytest.raises(UnsupportedInputError) as caught:
            call(given)
        assert advice in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_array_of_three_rows_is_an_image(opened: Model) -> None:
    [answer] = opened.predict(np.full((3, 9, 3), (230, 30, 10), np.uint8))
    assert answer.predicted_label == "red"


def test_tensors_are_arrays(opened: Model) -> None:
    torch = pytest.importorskip("torch")
    pixels = np.stack([make_pixels("red", 7, 20), make_pixels("blue", 7, 20)])
    expected = [each.probabilities for each in opened.predict(list(pixels))]
    tensor = torch.from_numpy(pixels)
    for given in (tensor, list(tensor), Tensor(pixels), tensor.permute(0, 3, 1, 2).permute(0, 2, 3, 1)):
        assert [each.probabilities for each in opened.predict(given)] == expected


@pytest.mark.parametrize("wrap", [lambda pixels: pixels, Tensor, lambda pixels: [pixels], lambda pixels: pixels[None]])
def test_bgr(wrap: Callable[[np.ndarray], object], opened: Model) -> None:
    pixels = make_pixels("red", 7, 20)
    [expected] = opened.predict(pixels)
    [answer] = opened.predict(wrap(pixels[:, :, ::-1]), channel_order="BGR")
    assert answer.probabilities == expected.probabilities
    assert belvedere.predict(opened, pixels[:, :, ::-1], channel_order="BGR")[0].predicted_label == "red"
    with pytest.raises(UsageError):
        opened.predict(pixels, channel_order="GBR")


def test_bgr_is_for_arrays_only(file: Path, opened: Model) -> None:
    for form in ("path", "bytes", "pillow", "open file"):
        [answer] = opened.predict(FORMS[form](file), channel_order="BGR")
        assert answer.predicted_label == "red"


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pixels_get_the_probabilities_of_their_file(suffix: str, opened: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (90, 70, 3), np.uint8)
    Image.fromarray(pixels).save(file := tmp_path / f"x.{suffix}")
    [expected], [answer] = opened.predict(file, draft=False), opened.predict(belvedere.read_image(file))
    assert answer.probabilities == expected.probabilities
    assert (opened.embed(file, draft=False) == opened.embed(belvedere.read_image(file))).all()


@pytest.mark.parametrize("count", [5, 100])
def test_a_buffer_that_is_used_again_is_read_in_time(count: int, opened: Model) -> None:
    buffer = np.zeros((8, 8, 3), np.uint8)

    def frames() -> "object":
        for number in range(count):
            buffer[:] = make_pixels(("red", "blue")[number % 2])
            yield buffer

    answers = [each.predicted_label for each in opened.predict(frames())]
    assert answers == [("red", "blue")[number % 2] for number in range(count)]


class Slow(io.RawIOBase):
    """A binary file that returns a few bytes a call, as a pipe does."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 10))


def test_a_file_is_read_to_its_end(file: Path, opened: Model) -> None:
    [answer] = opened.predict(Slow(file.read_bytes()))
    assert (answer.predicted_label, answer.error) == ("red", None)
    with file.open("rb") as twice:
        first, second = opened.predict([twice, twice])
    assert (first.error, second.error) == (None, "empty file")
    [closed] = opened.predict(twice)
    assert closed.error


def test_text_files_and_archives_are_refused(file: Path, opened: Model, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as written:
        written.write(file, "red.png")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive, tempfile.NamedTemporaryFile("w+") as text:
        text.write(f"{file}\n{file}\n")
        text.seek(0)
        for given in (archive, text, [text], [archive]):
            with pytest.raises(UnsupportedInputError):
                opened.predict(given)
        [answer] = opened.predict(archive.open("red.png"))
        assert answer.predicted_label == "red"


PNG_OF = {name: io.BytesIO() for name in ("red", "blue", "green")}
for _name, _file in PNG_OF.items():
    Image.fromarray(make_pixels(_name)).save(_file, "PNG")
ONE = st.one_of(
    st.sampled_from(sorted(PNG_OF)).map(lambda name: (PNG_OF[name].getvalue(), name)),
    st.sampled_from(sorted(PNG_OF)).map(lambda name: (make_pixels(name), name)),
    st.sampled_from(sorted(PNG_OF)).map(lambda name: (io.BytesIO(PNG_OF[name].getvalue()), name)),
    st.binary(max_size=40).map(lambda content: (content, None)),
    st.binary(max_size=40).map(lambda content: (bytearray(content), None)),
    st.binary(max_size=40).map(lambda content: (memoryview(content), None)),
    st.binary(max_size=40).map(lambda content: (io.BytesIO(content), None)),
)
WRONG = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.just(""),
    st.text().map(io.StringIO),
    st.dictionaries(st.text(), st.binary()),
    st.binary(min_size=1).map(lambda content: array.array("B", content)),
    st.integers(0, 9).map(lambda size: np.zeros((size,), np.uint8)),
    st.sampled_from([object(), int, np.float32(1), np.array(None), np.zeros((8, 8, 3)), np.zeros((0, 9), np.uint8)]),
)


@settings(max_examples=1000)
@hypothesis_given(st.lists(ONE, max_size=4), st.none() | WRONG)
def test_any_objects_give_right_answers_or_a_type_error(
    opened: Model, ones: list[tuple[object, str | None]], wrong: object
) -> None:
    given = [one for one, _ in ones]
    if wrong is not None:
        for refused in (wrong, [*given, wrong]):
            with pytest.raises(UnsupportedInputError):
                opened.predict(refused)
        return
    answers = opened.predict(given)
    assert [answer.predicted_label for answer in answers] == [name for _, name in ones]
    assert [answer.error is None for answer in answers] == [name is not None for _, name in ones]


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


def test_inputs_keep_their_order_and_are_read_as_needed() -> None:
    image, empty = (odd_files.readable_files()["rgba.png"], odd_files.unreadable_files()["empty.jpg"])
    taken = []

    def sources() -> Iterator[bytes]:
        for source in [image, empty, image] * PREFETCH:  # far more than are read ahead
            taken.append(source)
            yield source

    outcomes = read_inputs(sources(), Preprocess(8, 8))
    first = next(outcomes)
    assert isinstance(first, DecodedImage)
    assert len(taken) <= PREFETCH + 1
    failed = [isinstance(outcome, InvalidImageError) for outcome in (first, *outcomes)]
    assert failed == [False, True, False] * PREFETCH
