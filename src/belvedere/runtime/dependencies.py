"""Optional dependencies: the packages that an extra of the distribution installs."""

from collections.abc import Iterable
from importlib.util import find_spec

from belvedere.errors import MissingDependencyError

SERVE = ("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn")
REPORT = ("jinja2", "matplotlib")
TRAIN = (
    "torch",
    "timm",
    "huggingface_hub",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "pydantic",
    "safetensors",
    "tomli_w",
    *REPORT,
)
EXTRAS = {  # of pyproject.toml, by the names of their modules
    "explore": ("openTSNE", *SERVE),
    "heif": ("pillow_heif",),
    "hub": ("huggingface_hub", "onnx", "tomli_w"),
    "pandas": ("pandas",),
    "parquet": ("pyarrow",),
    "report": REPORT,
    "serve": SERVE,
    "train": TRAIN,
    "sklearn": ("sklearn", *TRAIN),
    "track": ("tensorboard", "mlflow", "sqlalchemy", "alembic", "wandb", "trackio"),
}


def require(extra: str, purpose: str, packages: Iterable[str] | None = None) -> None:
    """Check, without importing them, that the packages of an extra are installed.

    Args:
        extra: Name of the extra.
        purpose: Feature that needs the packages.
        packages: Those of the extra that are needed. Default: all.

    Raises:
        MissingDependencyError: A package is missing; the message starts with the purpose.
    """
    for package in EXTRAS[extra] if packages is None else packages:
        spec = find_spec(package)
        if (
            spec is None or spec.origin is None
        ):  # without an origin: a folder of that name, such as wandb/, not a package
            raise MissingDependencyError(purpose, package, extra)
