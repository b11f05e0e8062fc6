"""A model's card in the metadata of its file, and back.

Knows how each field is written and checked; does not know graphs, or how a model is asked.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields as fields_of
from types import UnionType
from typing import Any, get_args, get_origin

from belvedere.errors import InvalidModelError
from belvedere.images.resize import INTERPOLATIONS, RESIZE_RULES
from belvedere.types.model import Layer, ModelCard, Preprocess, Provenance, TagModel, Trust

FORMAT = "belvedere/1"
PLAIN_FORMAT = "belvedere-plain/1"  # of a file for other runtimes
MAX_CHARACTERS = 1 << 26  # of a field; tags of 1,000 classes fill half of it
MAX_NUMBER = 1e15
MAX_SIDE = 4096  # of the input, pixels
MIN_TEMPERATURE = 1e-3
MAX_REASON = 200  # characters


def card_to_metadata(card: ModelCard) -> dict[str, str]:
    """Writes a card as the metadata of an ONNX file: each key holds JSON."""
    fields = {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(card).items()}
    return {"format": FORMAT, **fields}


def replace_metadata(content: bytes, card: ModelCard) -> bytes:
    """Returns a model file with another card, the same graph, and what else its metadata hold.

    Raises:
        ModuleNotFoundError: onnx, which writes model files, is not installed.
    """
    from onnx import ModelProto, helper

    graph = ModelProto.FromString(content)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    helper.set_model_props(graph, kept | card_to_metadata(card))
    return bytes(graph.SerializeToString())


def card_from_metadata(metadata: Mapping[str, str], name: str) -> ModelCard:
    """Reads a card from the metadata of an ONNX file.

    Raises:
        InvalidModelError: It isn't there, or is of another format.
    """
    if metadata.get("format") == PLAIN_FORMAT:
        raise InvalidModelError(
            f"{name} was exported in the plain form ({PLAIN_FORMAT!r}), which is for other runtimes. "
            "Give the model that it was made from."
        )
    if metadata.get("format") != FORMAT:
        raise InvalidModelError(
            f"{name} does not hold the metadata of a Belvedere model: expected format {FORMAT!r}. "
            f"Received: {metadata.get('format')!r}. Train it with this version, or use the version it was trained with."
        )
    try:
        fields: dict[str, Any] = {key: _parse(metadata[key]) for key in ("class_names", "layers")}
        if not isinstance(fields["class_names"], list):
            raise TypeError(f"class_names: {fields['class_names']!r}")
        layers = tuple(Layer(**{**row, "shape": tuple(row["shape"])}) for row in fields["layers"])
        preprocess = Preprocess(**_parse(metadata["preprocess"]))
        provenance = _read_provenance(_parse(metadata["provenance"]))
        trust = _read_trust(_parse(metadata.get("trust", "{}")))  # models of older versions have none
        card = ModelCard(tuple(fields["class_names"]), preprocess, layers, provenance, trust)
        for record in (card, preprocess, provenance, trust, *layers, *filter(None, (trust.tags, trust.first_tags))):
            _check_kinds(record)
        _check_values(card)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise InvalidModelError(f"{name} has damaged metadata ({reason}). Train it again.") from error
    return card


def _parse(text: str) -> Any:
    """Reads JSON, without the constants that JSON does not have."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters")
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def _check_values(card: ModelCard) -> None:
    """Raises ValueError where a field that decides how a model is asked, or its answers read, has an odd value."""
    names, preprocess, trust = card.class_names, card.preprocess, card.trust
    if not names or len(set(names)) < len(names) or not all(names):
        raise ValueError(f"class_names: {names!r}")
    if not (1 <= preprocess.height <= MAX_SIDE and 1 <= preprocess.width <= MAX_SIDE):
        raise ValueError(f"input of {preprocess.height} x {preprocess.width} pixels")
    if preprocess.resize not in RESIZE_RULES:
        raise ValueError(f"resize: {preprocess.resize!r}")
    if preprocess.interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: {preprocess.interpolation!r}")
    if not MIN_TEMPERATURE <= trust.temperature <= 1 / MIN_TEMPERATURE:
        raise ValueError(f"temperature: {trust.temperature!r}")
    if len(trust.outlier_quantiles) == 1 or list(trust.outlier_quantiles) != sorted(trust.outlier_quantiles):
        raise ValueError("outlier_quantiles")
    for rule in filter(None, (trust.tags, trust.first_tags)):
        sizes = {len(rule.scales), len(rule.biases), len(rule.context) or len(names), *map(len, rule.context)}
        if sizes != {len(names)}:
            raise ValueError(f"tags for {sizes} classes, of {len(names)}")


def _read_provenance(fields: dict[str, Any]) -> Provenance:
    """Makes JSON's list the tuple that it was."""
    return Provenance(**{**fields, "sketch": tuple(fields.get("sketch", ()))})


def _read_trust(fields: dict[str, Any]) -> Trust:
    """Makes JSON's lists the tuples that they were."""
    quantiles = tuple(fields.pop("outlier_quantiles", ()))
    tags, first = _read_rule(fields.pop("tags", None)), _read_rule(fields.pop("first_tags", None))
    return Trust(**fields, outlier_quantiles=quantiles, tags=tags, first_tags=first)


def _read_rule(fields: dict[str, Any] | None) -> TagModel | None:
    if fields is None:
        return None
    context = tuple(tuple(row) for row in fields.pop("context"))
    scales, biases = tuple(fields.pop("scales")), tuple(fields.pop("biases"))
    return TagModel(scales, biases, context, **fields)


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
        return isinstance(value, int | float) and abs(value) <= MAX_NUMBER
    if origin is int:
        return isinstance(value, int) and abs(value) <= MAX_NUMBER
    if origin is str:
        return isinstance(value, str) and bool(value.encode() or True)  # raises for what no file can hold
    if origin is UnionType:
        return any(_is_kind(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_kind(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_kind(each, inner[1]) for each in value.values())
    return isinstance(value, origin)
