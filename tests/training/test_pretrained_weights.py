"""Files of weights: what is read, and what is refused in one line."""

import hashlib
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from belvedere.errors import WeightsError
from belvedere.runtime.progress import Progress
from belvedere.training.pretrained_weights import Weights, load_pretrained_weights, weights_name

TENSORS = {"stem.weight": torch.arange(6.0).view(2, 3), "stem.bias": torch.ones(2)}
RAN: list[str] = []


class Runs:
    """Unpickled, it would run what is given: here, it would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return RAN.append, ("code ran",)


def read(file: Path, sha256: str = "") -> Weights:
    return load_pretrained_weights("nobody/nothing", str(file), sha256, Progress())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


def assert_same(found: Weights) -> None:
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in TENSORS.items())


def test_safetensors(file: Path) -> None:
    found = read(file)
    assert_same(found)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.source == "weights.safetensors"  # no path of the machine: it goes into the model's card
    assert weights_name("a/b", found).startswith(f"a_b-{found.sha256[:12]}-timm")


@pytest.mark.parametrize("wrapped", [TENSORS, {"state_dict": TENSORS, "epoch": 3}, {"model": TENSORS}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_torch(wrapped: dict[str, object], prefix: str, tmp_path: Path) -> None:
    content = {
        key: {f"{prefix}{name}": each for name, each in value.items()} if isinstance(value, dict) else value
        for key, value in wrapped.items()
    }
    if wrapped is TENSORS:
        content = {f"{prefix}{name}": each for name, each in TENSORS.items()}
    torch.save(content, tmp_path / "weights.pth")
    assert_same(read(tmp_path / "weights.pth"))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"stem.weight": TENSORS["stem.weight"], "extra": Runs()}, file)
    with pytest.raises(WeightsError, match=r"weights\.pth contains more than weights") as told:
        read(file)
    assert "\n" not in str(told.value)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Runs()}))
    with pytest.raises(WeightsError, match=r"plain\.pth"):
        read(tmp_path / "plain.pth")
    assert RAN == []


@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_truncated_file_is_refused(left: int, file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"weights\.safetensors is damaged or truncated") as told:
        read(file)
    assert "\n" not in str(told.value)
    torch.save(TENSORS, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"cut\.pth") as told:
        read(tmp_path / "cut.pth")
    assert "\n" not in str(told.value)


def test_a_wrong_checksum_is_refused(file: Path) -> None:
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert_same(read(file, right.upper()))
    with pytest.raises(WeightsError, match=f"expected the SHA-256 {'0' * 64}. Received: {right}"):
        read(file, "0" * 64)


@pytest.mark.parametrize(
    "content", [b"<html>404: not found</html>", b"version https://git-lfs.github.com/spec/v1", b""]
)
def test_what_is_no_such_file_at_all_is_not_called_dangerous(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"odd\.pth is damaged") as told:
        read(tmp_path / "odd.pth")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"state_dict": {"a": "b"}}])
def test_what_is_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth is not a state dict"):
        read(tmp_path / "odd.pth")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Cannot read the weights .*none\.safetensors: No such file"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="Cannot read the weights"):
        read(tmp_path)
