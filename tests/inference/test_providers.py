"""The choice of execution providers, and the number of threads."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import belvedere
from belvedere.errors import UnknownNameError, UsageError
from belvedere.inference.model import Model, load_model
from belvedere.inference.providers import CPU, CUDA, DeviceOptions
from conftest import make_pixels

TENSORRT = "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("options", "available", "expected"),
    [
        (DeviceOptions(), [CPU], [CPU]),
        (DeviceOptions(), [TENSORRT, CUDA, CPU], [CUDA, CPU]),
        (DeviceOptions("cpu"), [CUDA, CPU], [CPU]),
        (DeviceOptions("cuda"), [CUDA, CPU], [CUDA, CPU]),
        (DeviceOptions(providers=[TENSORRT, CUDA]), [TENSORRT, CUDA, CPU], [TENSORRT, CUDA]),
        (DeviceOptions(providers=[(CUDA, {"device_id": 1})]), [CUDA, CPU], [(CUDA, {"device_id": 1})]),
    ],
)
def test_providers(options: DeviceOptions, available: list[str], expected: list[object]) -> None:
    assert options.choose_providers(available) == expected


def test_what_is_not_available_is_refused() -> None:
    with pytest.raises(UsageError, match="onnxruntime-gpu"):
        DeviceOptions("cuda").choose_providers([CPU])
    with pytest.raises(UnknownNameError, match=CPU):
        DeviceOptions(providers=[CUDA]).choose_providers([CPU])


@pytest.mark.parametrize(
    "options",
    [
        {"device": "gpu"},
        {"threads": 0},
        {"threads": 1.5},
        {"threads": True},
        {"device": "cpu", "providers": [CPU]},
        {"providers": []},
        {"providers": CPU},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], tiny_model: Path) -> None:
    with pytest.raises(UsageError):
        load_model(tiny_model, **options)  # type: ignore[arg-type]


def test_an_open_model_keeps_its_device(opened: Model) -> None:
    for options in ({"device": "cpu"}, {"threads": 2}, {"providers": [CPU]}):
        with pytest.raises(UsageError):
            belvedere.predict(opened, [], **options)


def test_functions_take_a_device(tiny_model: Path) -> None:
    [answer] = belvedere.predict(tiny_model, make_pixels("red"), device="cpu", threads=1)
    assert answer.predicted_label == "red"
    assert load_model(tiny_model).providers == load_model(tiny_model, providers=[CPU]).providers == (CPU,)
    with pytest.raises(UsageError):
        belvedere.predict(tiny_model, make_pixels("red"), device="cuda")


class WithoutGpu:
    """ONNX Runtime with CUDA, on a machine without it."""

    OPEN = onnxruntime.InferenceSession

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises

    def __call__(self, content: bytes, options: object, providers: list[str], **others: object) -> object:
        if self._raises and CUDA in providers:
            raise RuntimeError("no CUDA-capable device")
        return self.OPEN(content, options, [name for name in providers if name != CUDA], **others)


@pytest.mark.parametrize("raises", [True, False])
def test_without_a_gpu(raises: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", WithoutGpu(raises=raises))
    assert load_model(tiny_model).providers == (CPU,)
    with pytest.raises((UsageError, belvedere.InvalidModelError)):
        load_model(tiny_model, device="cuda")


def max_workers(model: Model) -> int | None:
    executor = model._pool._executor
    return None if executor is None else executor._max_workers


def test_threads_of_a_model(tiny_model: Path) -> None:
    with load_model(tiny_model, threads=3) as model:
        expected = model.predict(np.stack([make_pixels("red")] * 70))
        assert max_workers(model) == 3
    assert max_workers(model) is None
    assert model.predict(np.stack([make_pixels("red")] * 70)) == expected  # starts them again
