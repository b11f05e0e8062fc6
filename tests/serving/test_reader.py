"""The order in which long requests are read, and the limits of waiting ones."""

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from belvedere.runtime.http.errors import HTTPError
from belvedere.serving.batcher import Batcher
from belvedere.serving.kserve import reader
from belvedere.serving.kserve.inputs import InferInput, read_request
from belvedere.serving.kserve.reader import LONG_JSON, MANY_VALUES, RequestReader
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.predictor import Predictor

PATIENCE = 30


def request(name: str, datatype: str, data: list[object]) -> bytes:
    return json.dumps({"inputs": [{"name": name, "shape": [1], "datatype": datatype, "data": data}]}).encode()


FILE = request("encoded_images", "BYTES", [base64.b64encode(bytes(LONG_JSON)).decode()])
VALUES = request("images", "UINT8", [[]] * MANY_VALUES)


class Blocked:
    """Requests with many values are read when `go` is set; counts those that are being read."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.num_reading = self.most = 0

    def read(self, body: bytes, json_bytes: int, limits: Limits) -> InferInput:
        if body == VALUES:
            self.num_reading += 1
            self.most = max(self.most, self.num_reading)
            assert self.go.wait(PATIENCE)
            self.num_reading -= 1
        return read_request(body, json_bytes, limits)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocked]:
    found = Blocked()
    monkeypatch.setattr(reader, "read_request", found.read)
    yield found
    found.go.set()


def run(test: Callable[[RequestReader], Awaitable[None]], response_seconds: float = PATIENCE) -> None:
    async def main() -> None:
        limits, metrics = Limits(max_queue=3, max_files=1, response_seconds=response_seconds), Metrics()
        await test(RequestReader(Predictor(Batcher(limits, metrics, 1), limits, metrics), limits))

    asyncio.run(main())


async def code_of(reading: Awaitable[InferInput]) -> tuple[int, str]:
    try:
        await reading
    except HTTPError as error:
        return error.status, error.code
    return 200, ""


def test_files_do_not_wait_for_values(blocked: Blocked) -> None:
    async def test(requests: RequestReader) -> None:
        waiting = asyncio.create_task(code_of(requests.read(VALUES, len(VALUES))))
        await asyncio.sleep(0)
        [image] = (await requests.read(FILE, len(FILE))).images
        assert image == bytes(LONG_JSON)
        assert not waiting.done()
        blocked.go.set()
        assert await waiting == (400, "invalid_tensor")

    run(test)


def test_values_are_read_one_at_a_time_and_wait_no_longer_than_a_response(blocked: Blocked) -> None:
    async def test(requests: RequestReader) -> None:
        readings = [asyncio.create_task(code_of(requests.read(VALUES, len(VALUES)))) for _ in range(5)]
        codes = await asyncio.gather(*readings)
        assert sorted(codes) == [(503, "queue_full")] * 2 + [(503, "timeout")] * 3
        # The thread of the first one goes on, so that the next one waits for it.
        assert await code_of(requests.read(VALUES, len(VALUES))) == (503, "timeout")
        assert blocked.most == 1
        blocked.go.set()
        while (code := await code_of(requests.read(VALUES, len(VALUES)))) == (503, "timeout"):
            pass
        assert code == (400, "invalid_tensor")
        assert blocked.most == 1

    run(test, response_seconds=0.1)


def test_short_requests_with_many_values_are_read_in_a_thread(blocked: Blocked) -> None:
    async def test(requests: RequestReader) -> None:
        assert len(VALUES) < LONG_JSON
        reading = asyncio.create_task(code_of(requests.read(VALUES, len(VALUES))))
        await asyncio.sleep(0.01)  # the event loop goes on
        blocked.go.set()
        assert (await reading)[0] == 400

    run(test)
