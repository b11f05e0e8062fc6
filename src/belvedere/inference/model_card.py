"""Model cards: written to and read from the metadata of an ONNX file, with every field checked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from types import UnionType
from typing import Any, get_args, get_origin

from belvedere.data.labels import compose
from belvedere.errors import InvalidModelError
from belvedere.images.resize import INTERPOLATIONS, RESIZE_RULES
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import ModelCard, TagModel

FORMAT = "belvedere/2"
NCHW_FORMAT = "belvedere-nchw/2"  # of a file for other runtimes
MAX_CHARACTERS = 1 << 26  # of a field; a tag model of 1,000 classes takes half of it
MAX_NUMBER = 1e15
MAX_IMAGE_SIZE = 4096  # pixels
MIN_TEMPERATURE = 1e-3


def card_to_metadata(card: ModelCard) -> dict[str, str]:
    """Return a card as the metadata of an ONNX file: one JSON value a key."""
    return {"format": FORMAT} | {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(card).items()}


def replace_metadata(content: bytes, card: ModelCard) -> bytes:
    """Return a model file with another card; graph and other metadata stay.

    Raises:
        ModuleNotFoundError: onnx is not installed.
    """
    from onnx import ModelProto, helper

    model = ModelProto.FromString(content)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, metadata | card_to_metadata(card))
    return bytes(model.SerializeToString())


def card_from_metadata(metadata: Mapping[str, str], name: str) -> ModelCard:
    """Read a card from the metadata of an ONNX file.

    Raises:
        InvalidModelError: The metadata are missing, of another format, or invalid.
    """
    if metadata.get("format") == NCHW_FORMAT:
        raise InvalidModelError(
            f"{name} was exported in the NCHW format ({NCHW_FORMAT!r}), which is for other runtimes. "
            "Give the model that it was made from."
        )
    if metadata.get("format") != FORMAT:
        raise InvalidModelError(
            f"{name} does not hold the metadata of a Belvedere model: expected format {FORMAT!r}. "
            f"Received: {metadata.get('format')!r}. Train it with this version, or use the version it was trained with."
        )
    try:
        values = {field.name: _parse(metadata[field.name]) for field in fields(ModelCard)}
        card: ModelCard = _read_value("card", ModelCard, values)
        card = replace(card, class_names=tuple(map(compose, card.class_names)))  # as the labels of datasets
        _check_values(card)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise InvalidModelError(f"{name} has damaged metadata ({describe_error(error)}). Train it again.") from error
    return card


def _parse(text: str) -> Any:
    """Read JSON; constants such as NaN are refused."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters")
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def _read_value(name: str, kind: Any, value: Any) -> Any:
    """Convert a JSON value to the annotated type of a field: lists to tuples, objects to records.

    Raises:
        TypeError: It is of another type. Further exceptions tell of records with other fields.
        ValueError: It is a text that no file can hold.
    """
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(origin):
        kinds = {field.name: field.type for field in fields(origin)}
        return kind(**{key: _read_value(key, kinds[key], each) for key, each in value.items()})
    if origin is UnionType:  # with None
        return None if value is None else _read_value(name, inner[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_read_value(name, inner[0], each) for each in value)
    if origin is Mapping and isinstance(value, dict):
        return {key: _read_value(name, inner[1], each) for key, each in value.items()}
    if origin is str and isinstance(value, str):
        value.encode()
        return value
    if isinstance(value, bool) or origin is bool:
        is_valid = isinstance(value, bool) and origin is bool
    else:
        is_valid = isinstance(value, (int, float) if origin is float else int) and abs(value) <= MAX_NUMBER
    if not is_valid or origin not in (bool, int, float):
        raise TypeError(f"{name}: {value!r}")
    return value


def _tag_models(card: ModelCard) -> list[TagModel]:
    return [model for model in (card.uncertainty.tag_model, card.uncertainty.initial_tag_model) if model is not None]


def _check_values(card: ModelCard) -> None:
    """Raise ValueError for values that no model can have."""
    names, preprocess, uncertainty = card.class_names, card.preprocess, card.uncertainty
    quantiles = uncertainty.ood_score_quantiles
    if not names or len(set(names)) < len(names) or not all(names):
        raise ValueError(f"class_names: {names!r}")
    if not (1 <= preprocess.height <= MAX_IMAGE_SIZE and 1 <= preprocess.width <= MAX_IMAGE_SIZE):
        raise ValueError(f"input of {preprocess.height} x {preprocess.width} pixels")
    if preprocess.resize not in RESIZE_RULES:
        raise ValueError(f"resize: {preprocess.resize!r}")
    if preprocess.interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation: {preprocess.interpolation!r}")
    if not MIN_TEMPERATURE <= uncertainty.temperature <= 1 / MIN_TEMPERATURE:
        raise ValueError(f"temperature: {uncertainty.temperature!r}")
    if len(quantiles) == 1 or list(quantiles) != sorted(quantiles):
        raise ValueError("ood_score_quantiles")
    for model in _tag_models(card):
        weights = model.cross_class_weights
        sizes = {len(model.scale), len(model.bias), len(weights) or len(names), *map(len, weights)}
        if sizes != {len(names)}:
            raise ValueError(f"tag model for {sizes} classes, expected {len(names)}")
