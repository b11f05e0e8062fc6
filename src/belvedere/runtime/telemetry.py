"""Switches that keep the dependencies from sending data; docs/privacy.md lists what each of them could send.

Importing `belvedere` sets the environment variables that the user has not set, since each library reads its own when it
is imported. Child processes inherit them.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.29 and later
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub and hf-xet, which timm imports
    "RAY_USAGE_STATS_ENABLED": "0",
}
# For FastAPI(telemetry=...): FastAPI sends traces elsewhere where FASTAPI_OTEL_AUTO_CONFIGURE and OTEL_* say so.
FASTAPI_OFF: "TelemetryConfig" = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def switch_off() -> None:
    """Set the environment variables that the user has not set."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
