"""Model cards: written to and read from the metadata of an ONNX file, with every field checked."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields as fields_of
from types import UnionType
from typing import Any, get_args, get_origin

from belvedere.errors import InvalidModelError
from belvedere.images.resize import INTERPOLATIONS, RESIZE_RULES
from belvedere.types.model import Layer, ModelCard, Preprocess, Provenance, TagModel, Uncertainty

FORMAT = "belvedere/2"
NCHW_FORMAT = "belvedere-nchw/2"  # of a file for other runtimes
MAX_CHARACTERS = 1 << 26  # of a field; a tag model of 1,000 classes takes half of it
MAX_NUMBER = 1e15
MAX_IMAGE_SIZE = 4096  # pixels
MIN_TEMPERATURE = 1e-3
MAX_REASON = 200  # characters


def card_to_metadata(card: ModelCard) -> dict[str, str]:
    """Return a card as the metadata of an ONNX file: one JSON value a key."""
    fields = {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(card).items()}
    return {"format": FORMAT, **fields}


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
        card = ModelCard(
            tuple(_as_list(_parse(metadata["class_names"]))),
            Preprocess(**_parse(metadata["preprocess"])),
            tuple(Layer(**_with_tuples(row, "shape")) for row in _parse(metadata["layers"])),
            Provenance(**_with_tuples(_parse(metadata["provenance"]), "data_minhash")),
            _read_uncertainty(_parse(metadata["uncertainty"])),
        )
        for record in (card, card.preprocess, card.provenance, card.uncertainty, *card.layers, *_tag_models(card)):
            _check_types(record)
        _check_values(card)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise InvalidModelError(f"{name} has damaged metadata ({reason}). Train it again.") from error
    return card


def _parse(text: str) -> Any:
    """Read JSON; constants such as NaN are refused."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters")
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list. Received: {value!r}")
    return value


def _with_tuples(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return fields with those of these names, lists in JSON, as tuples."""
    return fields | {name: tuple(_as_list(fields[name])) for name in names if name in fields}


def _read_uncertainty(fields: dict[str, Any]) -> Uncertainty:
    models = {key: _read_tag_model(fields[key]) for key in ("tag_model", "initial_tag_model") if fields.get(key)}
    return Uncertainty(**_with_tuples(fields, "ood_score_quantiles") | models)


def _read_tag_model(fields: dict[str, Any]) -> TagModel:
    weights = tuple(tuple(row) for row in fields["cross_class_weights"])
    return TagModel(**_with_tuples(fields, "scale", "bias") | {"cross_class_weights": weights})


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


def _check_types(record: object) -> None:
    """Raise TypeError for a field whose value is not of the annotated type."""
    for entry in fields_of(record):  # type: ignore[arg-type]
        value = getattr(record, entry.name)
        if not _is_of_type(value, entry.type):
            raise TypeError(f"{entry.name}: {value!r}")


def _is_of_type(value: object, kind: Any) -> bool:
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
        return any(_is_of_type(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of_type(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_of_type(each, inner[1]) for each in value.values())
    return isinstance(value, origin)
