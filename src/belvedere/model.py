"""model.onnx opened: its card, and answers for pictures; the only owner of ONNX Runtime.

Knows the model file and how to keep its cores busy with files; does not know torch, labels or figures of merit.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from itertools import chain, islice
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from belvedere.errors import UnreadableImage, UnreadableModel, UsageError
from belvedere.images import INTERPOLATIONS, RESIZE_RULES, DecodedImage, read_input
from belvedere.records import Layer, ModelCard, Prediction, Preprocess, Provenance, Trust
from belvedere.threads import chunks_of, map_ahead
from belvedere.walking import list_pictures

INPUT = "images"
OUTPUTS = ("logits", "probabilities", "embedding")
EVIDENCE = "evidence"  # models of older versions have none
FORMAT = "belvedere/1"
BATCH = 16  # pictures that a thread reads and answers for at once: as quick as more, and gentle to the caches
BATCHES_AHEAD = 16  # answered before they are asked for
COUNTED = 1_000_000  # files that are counted before the work; of more, nobody is told how many are left
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
            session = open_session(content)
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

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the file says of itself: the same for the same model in the same form."""
        metadata = self._session.get_modelmeta().custom_metadata_map
        return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()

    def width_of(self, output: str) -> int:
        """How many numbers one of `OUTPUTS` has for a picture."""
        outputs = {each.name: each for each in self._session.get_outputs()}
        return int(outputs[output].shape[1])

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Runs the graph.

        Args:
            images: (N, H, W, 3), RGB, of the model's input size.

        Returns:
            Its outputs for the N pictures.
        """
        return Outputs(*self._ask(OUTPUTS, images))

    def _ask(self, outputs: Sequence[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Computes some of the graph's outputs, a batch to each core at a time."""

        def ask(batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            said: list[NDArray[np.float32]] = self._session.run(outputs, {INPUT: np.ascontiguousarray(batch)})
            return said

        if len(images) <= BATCH:
            return ask(images)
        batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
        return [np.concatenate(parts) for parts in zip(*map_ahead(ask, batches, BATCHES_AHEAD), strict=True)]

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
        if EVIDENCE not in [output.name for output in self._session.get_outputs()]:
            raise UnreadableModel(f"{self.name} holds no evidence by place: it is of an older version. Train it again.")
        *said, evidence = self._ask([*OUTPUTS, EVIDENCE], images)
        return Outputs(*said), evidence

    def predict(self, sources: Source | Iterable[Source]) -> list[Prediction]:
        """Answers for pictures.

        Args:
            sources: A file, a folder (its pictures, and those in its folders) or a file's bytes, or several of these.

        Returns:
            One answer a picture, in order; a file that can't be read has its reason in `error`.
        """
        several = [sources] if isinstance(sources, Path | str | bytes) else sources
        return list(self.stream(expand(several), reduced=True))

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

        return chain.from_iterable(map_ahead(answer, chunks_of(sources, BATCH), BATCHES_AHEAD))

    def answer_batch(self, sources: Sequence[Source], *, reduced: bool = False) -> list[Prediction]:
        """Answers for a few files in the thread that asks, as `stream`."""
        outcomes = [_read(source, self.card.preprocess, reduced) for source in sources]
        readable = [outcome.pixels for outcome in outcomes if isinstance(outcome, DecodedImage)]
        said = iter(self._ask(["probabilities"], np.stack(readable))[0] if readable else ())
        answers = []
        for source, outcome in zip(sources, outcomes, strict=True):
            name = "picture" if isinstance(source, bytes) else str(source)
            if isinstance(outcome, UnreadableImage):
                answers.append(Prediction(name, error=outcome.reason))
            else:
                answers.append(self.answer(name, next(said), outcome.notes))
        return answers

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


def open_session(content: bytes | str) -> onnxruntime.InferenceSession:
    """Opens a graph that computes in the thread that asks it.

    Threads that share the pictures among them are a third quicker than threads that share each layer.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _read(source: Source, preprocess: Preprocess, reduced: bool) -> DecodedImage | UnreadableImage:
    try:
        return read_input(source, preprocess, reduced=reduced)
    except UnreadableImage as error:
        return error


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
    return open_model(content, str(file))


def open_model(content: bytes, name: str) -> Model:
    """Opens a model from the bytes of its file, as `load`; `name` is for messages."""
    plain = Model.from_bytes(content, None, name)
    card = card_from_metadata(plain._session.get_modelmeta().custom_metadata_map, name)
    _check_shapes(plain._session, card, name)
    return Model(plain._session, card, name)


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


def count_pictures(sources: Iterable[Source], most: int = COUNTED) -> int | None:
    """Counts what `expand` gives, by names alone; None where it is more than `most`."""
    counted = sum(1 for _ in islice(expand(sources), most + 1))
    return counted if counted <= most else None


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
