"""Optional dependencies: the packages that an extra of the distribution installs."""

from importlib.util import find_spec

from belvedere.errors import MissingDependencyError

REPORT = ("jinja2", "matplotlib")
EXTRAS = {  # of pyproject.toml, by the names of their modules
    "pandas": ("pandas",),
    "report": REPORT,
    "serve": ("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn"),
    "train": ("torch", "timm", "huggingface_hub", "onnx", "onnxscript", "pydantic", "safetensors", "tomli_w", *REPORT),
}


def require(extra: str, purpose: str) -> None:
    """Check, without importing them, that the packages of an extra are installed.

    Raises:
        MissingDependencyError: A package is missing; the message starts with the purpose.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise MissingDependencyError(purpose, package, extra)
