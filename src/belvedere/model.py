"""model.onnx opened: its card, and answers for pictures; the only owner of ONNX Runtime.

Knows the model file and how to keep its cores busy with files; does not know torch, labels or figures of merit.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from itertools import islice, tee
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from belvedere.errors import UnreadableImage, UnreadableModel, UsageError
from belvedere.images import INTERPOLATIONS, RESIZE_RULES, DecodedImage, list_pictures, read_inputs
from belvedere.records import Layer, ModelCard, Prediction, Preprocess, Provenance, Trust

INPUT = "images"
OUTPUTS = ("logits", "probabilities", "embedding")
EVIDENCE = "evidence"  # models of older versions have none
FORMAT = "belvedere/1"
BATCH = 64
MODEL_NAME = "model.onnx"
BUNDLED = Path(__file__).with_name("assets") / "scenes.onnx"  # answers where no model is named
WHAT_TO_GIVE = "Give a model.onnx that Belvedere wrote, or its folder."

Source = Path | str | bytes


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the graph says of N pictures."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    embedding: NDArray[np.float32]  # (N, D)


class Model:
    """A trained model: opened with `load`, asked with `predict`."""

    def __init__(self, session: onnxruntime.InferenceSession, card: ModelCard | None, name: str) -> None:
        self._session = session
        self._card = card
        self.name = name

    @classmethod
    def from_bytes(cls, content: bytes, card: ModelCard | None, name: str = MODEL_NAME) -> "Model":
        """Opens a graph.

        Raises:
            UnreadableModel: These bytes are no ONNX graph, or one without the inputs and outputs of ours, or not the
                graph that the card describes.
        """
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no other common parent
            reason = str(error).splitlines()[0][:200]
            raise UnreadableModel(f"{name} is not an ONNX model that can be run: {reason}. {WHAT_TO_GIVE}") from error
        outputs = [output.name for output in session.get_outputs()]
        if [i.name for i in session.get_inputs()] != [INPUT] or not set(OUTPUTS) <= set(outputs):
            raise UnreadableModel(
                f"{name} is an ONNX model, but not one of Belvedere's: expected the input {INPUT} and the outputs "
                f"{', '.join(OUTPUTS)}. Received the outputs: {', '.join(outputs)}. {WHAT_TO_GIVE}"
            )
        if card is not None:
            _check_shapes(session, card, name)
        return cls(session, card, name)

    @property
    def card(self) -> ModelCard:
        """What the model says about itself."""
        if self._card is None:
            raise UnreadableModel(f"{self.name} has no card: it was not written by Belvedere.")
        return self._card

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, in the order of the probabilities."""
        return self.card.class_names

    def width_of(self, output: str) -> int:
        """How many numbers one of `OUTPUTS` has for a picture."""
        outputs = {each.name: each for each in self._session.get_outputs()}
        return int(outputs[output].shape[1])

    @property
    def has_evidence(self) -> bool:
        """Whether the graph says where in a picture it found what (see `explain`)."""
        return EVIDENCE in [output.name for output in self._session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Runs the graph.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.

        Returns:
            Its outputs for the N pictures.
        """
        return Outputs(*self._session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(images)}))

    def explain(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Says where in pictures the evidence for each class is.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.

        Returns:
            (N, K, h, w): the logits of each place of the network's last map; their mean over the places is the
            picture's logits. A network that tells no places, such as the article's, has one.

        Raises:
            UnreadableModel: The model was written by a version that had no evidence.
        """
        return self.run_all(images)[1]

    def run_all(self, images: NDArray[np.uint8]) -> tuple[Outputs, NDArray[np.float32]]:
        """Runs the graph once for what `run` and `explain` give."""
        if not self.has_evidence:
            raise UnreadableModel(f"{self.name} holds no evidence by place: it is of an older version. Train it again.")
        *said, evidence = self._session.run([*OUTPUTS, EVIDENCE], {INPUT: np.ascontiguousarray(images)})
        return Outputs(*said), evidence

    def predict(self, sources: Source | Iterable[Source]) -> list[Prediction]:
        """Answers for pictures.

        Args:
            sources: A file, a folder (its pictures, and those in its folders) or a file's bytes, or several of these.

        Returns:
            One answer a picture, in order; a file that can't be read has its reason in `error`.
        """
        several = [sources] if isinstance(sources, Path | str | bytes) else sources
        return list(self.stream(expand(several)))

    def stream(self, sources: Iterable[Source]) -> Iterator[Prediction]:
        """Answers for files one after the other, decoding ahead in threads, in memory that stays flat.

        Args:
            sources: Files, or their bytes; folders are not opened here (see `expand`).

        Yields:
            One answer a source, in order.
        """
        named, taken = tee(sources)
        outcomes = zip(named, read_inputs(taken, self.card.preprocess), strict=True)
        while batch := list(islice(outcomes, BATCH)):
            readable = [outcome.pixels for _, outcome in batch if isinstance(outcome, DecodedImage)]
            answers = iter(self.run(np.stack(readable)).probabilities if readable else ())
            for source, outcome in batch:
                name = "picture" if isinstance(source, bytes) else str(source)
                if isinstance(outcome, UnreadableImage):
                    yield Prediction(name, error=outcome.reason)
                else:
                    yield self.answer(name, next(answers), outcome.notes)

    def answer(self, name: str, probabilities: NDArray[np.float32], notes: tuple[str, ...]) -> Prediction:
        """Puts a picture's probabilities, (K,), into words."""
        best = int(probabilities.argmax())
        return Prediction(
            name,
            self.class_names[best],
            float(probabilities[best]),
            tuple(float(value) for value in probabilities),
            notes=notes,
        )


def load(path: Path | str = BUNDLED) -> Model:
    """Opens a model.

    Args:
        path: A `model.onnx`, or the run folder that holds one; without, the model that comes with Belvedere, which
            tells buildings, forest, glacier, mountain, sea and street apart.

    Returns:
        The model, ready to answer.

    Raises:
        UnreadableModel: It isn't there, is damaged, or is no model of Belvedere's.
    """
    try:
        file = find_model(path)
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableModel(f"There is no model in {path}: {reason}. {WHAT_TO_GIVE}") from error
    plain = Model.from_bytes(content, None, str(file))
    card = card_from_metadata(plain._session.get_modelmeta().custom_metadata_map, str(file))
    _check_shapes(plain._session, card, str(file))
    return Model(plain._session, card, str(file))


def _check_shapes(session: onnxruntime.InferenceSession, card: ModelCard, name: str) -> None:
    """Checks that the graph takes and gives what its card says; sizes that the graph leaves open fit any."""
    expected = {
        "input": (card.preprocess.height, card.preprocess.width, 3),
        "probabilities": (len(card.class_names),),
    }
    answers = next(output for output in session.get_outputs() if output.name == "probabilities")
    received = {"input": tuple(session.get_inputs()[0].shape[1:]), "probabilities": tuple(answers.shape[1:])}
    for what, sizes in expected.items():
        fits = [size == found or not isinstance(found, int) for size, found in zip(sizes, received[what], strict=False)]
        if len(received[what]) != len(sizes) or not all(fits):
            raise UnreadableModel(
                f"{name} has metadata that do not fit its graph: expected {what} of size {sizes}. "
                f"Received: {received[what]}. Train it again."
            )


def takes_model(path: Path) -> bool:
    """Whether a path, given among pictures and folders of them, means a model."""
    return path.suffix.lower() == ".onnx" or (path / MODEL_NAME).is_file()


def find_model(path: Path | str) -> Path:
    """Returns the model file that a path means: itself, or the one in a run folder."""
    return Path(path) / MODEL_NAME if Path(path).is_dir() else Path(path)


def expand(sources: Iterable[Source]) -> Iterator[Source]:
    """Puts in a folder's place the pictures in it, sorted; leaves everything else as it is.

    Raises:
        UsageError: A folder can't be read.
    """
    for source in sources:
        if not _is_folder(source):
            yield source
            continue
        try:
            yield from list_pictures(Path(str(source)))
        except OSError as error:
            raise UsageError(f"Can't read the folder {error.filename}: {error.strerror}. Give another.") from error


def _is_folder(source: Source) -> bool:
    try:
        return not isinstance(source, bytes) and Path(source).is_dir()
    except OSError:
        return False  # such as a name that is too long: reading it as a file says so


def count_pictures(sources: Sequence[Source]) -> int:
    """Counts what `expand` gives, without opening a file."""
    return sum(1 for _ in expand(sources))


def card_to_metadata(card: ModelCard) -> dict[str, str]:
    """Writes a card as the metadata of an ONNX file: each key holds JSON."""
    fields = {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(card).items()}
    return {"format": FORMAT, **fields}


def card_from_metadata(metadata: dict[str, str], name: str) -> ModelCard:
    """Reads a card from the metadata of an ONNX file.

    Raises:
        UnreadableModel: It isn't there, or is of another format.
    """
    if metadata.get("format") != FORMAT:
        raise UnreadableModel(
            f"{name} does not hold the metadata of a Belvedere model: expected format {FORMAT!r}. "
            f"Received: {metadata.get('format')!r}. Train it with this version, or use the version it was trained with."
        )
    try:
        fields: dict[str, Any] = {key: json.loads(metadata[key]) for key in ("class_names", "layers")}
        layers = tuple(Layer(**{**row, "shape": tuple(row["shape"])}) for row in fields["layers"])
        preprocess = Preprocess(**json.loads(metadata["preprocess"]))
        provenance = Provenance(**json.loads(metadata["provenance"]))
        trust = Trust(**json.loads(metadata.get("trust", "{}")))  # models of older versions have none
        card = ModelCard(tuple(fields["class_names"]), preprocess, layers, provenance, trust)
        for record in (card, preprocess, provenance, trust, *layers):
            _check_kinds(record)
        names = fields["class_names"]
        if not isinstance(names, list) or len(set(names)) < len(names) or not all(names):
            raise ValueError(f"class_names: {names!r}")
        if preprocess.resize not in RESIZE_RULES:
            raise ValueError(f"resize: {preprocess.resize!r}")
        if preprocess.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation: {preprocess.interpolation!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(f"{name} has damaged metadata ({error}). Train it again.") from error
    return card


def _check_kinds(record: object) -> None:
    """Raises TypeError where a field of a record holds another kind of value than its annotation says."""
    for entry in fields_of(record):  # type: ignore[arg-type]
        value = getattr(record, entry.name)
        if not _is_kind(value, entry.type):
            raise TypeError(f"{entry.name}: {value!r}")


def _is_kind(value: object, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if isinstance(value, bool) or origin is bool:
        return isinstance(value, bool) and origin is bool
    if origin is float:
        return isinstance(value, int | float)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_kind(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_kind(each, inner[1]) for each in value.values())
    return isinstance(value, origin)
