"""The JSON of the protocol as pydantic models."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_TENSORS = 32  # of a request, in or out
MAX_DIMENSIONS = 8


class _Request(BaseModel):
    """Base class of requests. Fields that the protocol does not define are ignored, as by other servers."""

    model_config = ConfigDict(strict=True)


class RequestInput(_Request):
    """Tensor of a request."""

    name: str
    shape: list[int] = Field(max_length=MAX_DIMENSIONS)
    datatype: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = Field(
        default=None, description="Elements, flat or nested; Base64 for BYTES. Not with the parameter binary_data_size."
    )


class RequestOutput(_Request):
    """Tensor that the response is to hold."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferRequest(_Request):
    """Request for predictions."""

    id: str | None = Field(default=None, description="Returned in the response.")
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[RequestInput] = Field(max_length=MAX_TENSORS)
    outputs: list[RequestOutput] | None = Field(
        default=None, max_length=MAX_TENSORS, description="Default: all outputs of the model."
    )


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorMetadata(_Response):
    """Name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 for a free size.")


class ServerMetadata(_Response):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(_Response):
    """A model and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(description="A request holds one of them.")
    outputs: list[TensorMetadata]


class ResponseOutput(TensorMetadata):
    """Tensor of a response."""

    data: list[float | bool | str] | None = Field(default=None, description="Elements, flat.")
    parameters: dict[str, int] | None = Field(default=None, description="binary_data_size, in place of data.")


class InferResponse(_Response):
    """Predictions."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class ErrorMessage(_Response):
    """Every error response of the protocol."""

    error: str
