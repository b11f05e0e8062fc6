"""The images of a request: encoded ones as BYTES, pixels as UINT8; as JSON, or as binary data behind the JSON."""

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from pydantic import ValidationError

from belvedere.images.decode import DecodedImage
from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.terminal import count
from belvedere.serving.batcher import Content
from belvedere.serving.kserve.schema import InferRequest, RequestInput, TensorMetadata
from belvedere.serving.limits import Limits

ENCODED = TensorMetadata(name="encoded_images", datatype="BYTES", shape=[-1])  # files, such as JPEGs
PIXELS = TensorMetadata(name="images", datatype="UINT8", shape=[-1, -1, -1, 3])  # RGB; the input of model.onnx
INPUTS = (ENCODED, PIXELS)
BINARY_SIZE = "binary_data_size"
MAX_DIGITS = 20  # of a header
LENGTH_BYTES = 4  # before each element of binary BYTES
# Limits of the JSON, whose values take up to 100 bytes of memory each, and whose parser holds up all threads.
MAX_JSON_VALUES = 300_000  # an RGB image of 316 x 316 pixels
MAX_JSON_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class InferInput:
    """A request without its data, and its images."""

    request: InferRequest
    images: list[Content]


def read_length(header: str | None, num_bytes: int) -> int:
    """Return the number of bytes of the JSON in a request.

    Args:
        header: Value of Inference-Header-Content-Length; None: the whole request is JSON.
        num_bytes: Size of the request.

    Raises:
        HTTPError: The header is invalid.
    """
    if header is None:
        return num_bytes
    if header.isascii() and header.isdigit() and len(header) < MAX_DIGITS and int(header) <= num_bytes:
        return int(header)
    raise invalid(
        f"Inference-Header-Content-Length is {header[:100]!r}, and the request has {num_bytes:,} bytes. Send the "
        "number of bytes of the JSON."
    )


def read_request(body: bytes, json_bytes: int, limits: Limits) -> InferInput:
    """Read a request.

    Args:
        body: Body of the request: JSON, and binary data behind it.
        json_bytes: Number of bytes of the JSON.
        limits: Limits of requests.

    Returns:
        The request with one image or more.

    Raises:
        HTTPError: The request is invalid.
    """
    request = _read_json(body[:json_bytes])
    names = ", ".join(f"{each.name} ({each.datatype})" for each in INPUTS)
    if len(request.inputs) != 1:
        raise invalid(f"The request has {count(len(request.inputs), 'input')}. Send one of {names}.")
    tensor = request.inputs[0]
    known = next((each for each in INPUTS if each.name == tensor.name), None)
    if known is None:
        raise invalid(f"There is no input {tensor.name[:100]!r}. Send one of {names}.")
    if tensor.datatype != known.datatype:
        raise invalid(f"Input {known.name} has datatype {tensor.datatype[:100]!r}. Send {known.datatype}.")
    _check_shape(tensor.shape, known, limits)
    binary = _binary_data(tensor, memoryview(body)[json_bytes:])
    if known is ENCODED:
        images: list[Content] = list(_decode_base64(tensor) if binary is None else _split(tensor, binary))
    else:
        images = list(_read_pixels(tensor, binary))
    tensor.data = None
    return InferInput(request, images)


def invalid(message: str, code: str = "invalid_tensor") -> HTTPError:
    """Return the error of an invalid request."""
    return HTTPError(400, message, code)


def count_values(text: bytes) -> int:
    """Return the number of values in JSON before it is read; text in it may add some, but Base64 does not."""
    return text.count(b",") + text.count(b"[")


def _read_json(text: bytes) -> InferRequest:
    if count_values(text) > MAX_JSON_VALUES or text.count(b":") > MAX_JSON_KEYS:
        raise invalid(f"The JSON has more than {MAX_JSON_VALUES:,} values or {MAX_JSON_KEYS:,} keys. Send binary data.")
    try:
        return InferRequest.model_validate(json.loads(text))
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        place = ".".join(map(str, first["loc"])) or "JSON"
        raise invalid(f"The request is invalid: {place}: {first['msg']}.", "invalid_request") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise invalid(f"The request is not JSON: {str(error)[:200]}.", "invalid_request") from None


def _check_shape(shape: Sequence[int], known: TensorMetadata, limits: Limits) -> None:
    fits = len(shape) == len(known.shape) and all(
        size > 0 and free in (-1, size) for size, free in zip(shape, known.shape, strict=True)
    )
    if not fits:
        raise invalid(f"Input {known.name} has shape {_show(shape)}. Send {known.shape}, with sizes over 0 for -1.")
    if shape[0] > limits.max_files:
        message = f"A request may hold {count(limits.max_files, 'image')}. Received: shape {_show(shape)}."
        raise invalid(f"{message} Send the others in another request.", "too_many_files")
    if prod(shape[1:3]) > limits.max_pixels:
        message = f"An image may have {limits.max_pixels:,} pixels. Received: shape {_show(shape)}."
        raise invalid(f"{message} Send smaller images.", "invalid_image")


def _show(shape: Sequence[int]) -> str:
    return str([size if abs(size) < 1 << 64 else "?" for size in shape])


def _binary_data(tensor: RequestInput, rest: memoryview) -> memoryview | None:
    """Return the binary data of the tensor; None if its data are in the JSON."""
    parameters = dict(tensor.parameters)
    size = parameters.pop(BINARY_SIZE, None)
    if parameters:
        raise invalid(f"Input {tensor.name} has parameters that are not supported: {str(list(parameters))[:200]}.")
    if size is None:
        if rest:
            raise invalid(f"{len(rest):,} bytes follow the JSON, but input {tensor.name} has no {BINARY_SIZE}.")
        if tensor.data is None:
            raise invalid(f"Input {tensor.name} has no data. Send `data` in the JSON, or binary data.")
        return None
    if tensor.data is not None:
        raise invalid(f"Input {tensor.name} has both data and {BINARY_SIZE}. Send one of them.")
    if type(size) is not int or size != len(rest):
        raise invalid(
            f"Input {tensor.name} has {BINARY_SIZE} {str(size)[:40]}, and {len(rest):,} bytes follow the JSON. Send as "
            "many as stated, and the header Inference-Header-Content-Length."
        )
    return rest


def _check_count(tensor: RequestInput, received: int, unit: str) -> None:
    expected = prod(tensor.shape)
    if received != expected:
        raise invalid(
            f"Input {tensor.name} has {received:,} {unit}, and shape {_show(tensor.shape)} {expected:,}. Send as many."
        )


def _split(tensor: RequestInput, binary: memoryview) -> list[bytes]:
    """Return the elements of binary BYTES, each with its length before it."""
    elements, start = [], 0
    for _ in range(tensor.shape[0]):
        if start + LENGTH_BYTES > len(binary):
            break
        [length] = struct.unpack_from("<I", binary, start)
        start += LENGTH_BYTES
        if length > len(binary) - start:
            raise invalid(f"An element has {length:,} bytes, but {len(binary) - start:,} follow. Send all of it.")
        elements.append(bytes(binary[start : start + length]))
        start += length
    _check_count(tensor, len(elements), "elements")
    if start < len(binary):
        raise invalid(f"{len(binary) - start:,} bytes follow the last element of input {tensor.name}. Leave them out.")
    return elements


def _decode_base64(tensor: RequestInput) -> list[bytes]:
    data = tensor.data or []
    _check_count(tensor, len(data), "elements")
    elements = []
    for index, text in enumerate(data):
        try:
            elements.append(base64.b64decode(text, validate=True))
        except (ValueError, TypeError):
            raise invalid(
                f"Element {index} of input {tensor.name} is not Base64. Send each file as Base64, or binary data."
            ) from None
    return elements


def _read_pixels(tensor: RequestInput, binary: memoryview | None) -> list[DecodedImage]:
    if binary is None:
        values = _flatten(tensor.data or [], tensor)
        _check_count(tensor, len(values), "elements")
        if set(map(type, values)) != {int} or not (min(values) >= 0 and max(values) <= 255):
            raise invalid(f"Input {tensor.name} has elements that are not integers from 0 to 255. Send these only.")
        binary = memoryview(bytes(values))
    else:
        _check_count(tensor, len(binary), "bytes")
    return [DecodedImage(each) for each in np.frombuffer(binary, np.uint8).reshape(tensor.shape)]


def _flatten(values: list[Any], tensor: RequestInput) -> list[Any]:
    """Return the elements of nested lists that agree with the shape, or of a flat list."""
    if not (values and isinstance(values[0], list)):
        return values
    for size in tensor.shape[1:]:
        if not all(isinstance(each, list) and len(each) == size for each in values):
            raise invalid(f"The nested data of input {tensor.name} disagree with its shape {_show(tensor.shape)}.")
        values = list(chain.from_iterable(values))
    return values
