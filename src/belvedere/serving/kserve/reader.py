"""Reads requests: short ones at once, long ones in a thread, so that the event loop is not blocked."""

import asyncio

from belvedere.runtime.http.errors import ServiceUnavailableError
from belvedere.serving.kserve.inputs import InferInput, count_values, read_request
from belvedere.serving.limits import Limits
from belvedere.serving.predictor import Predictor

LONG_JSON = 65_536  # bytes
MANY_VALUES = 5_000


class RequestReader:
    """Reads long requests one at a time, since their content fills the memory several times.

    Those with many values, which take longest to read, have a queue of their own: files as Base64 do not wait for them.
    """

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self._predictor, self._limits = predictor, limits
        self._of_text, self._of_values = asyncio.Lock(), asyncio.Lock()
        self._num_pending = 0

    async def read(self, body: bytes, json_bytes: int) -> InferInput:
        """Read a request, as `read_request`.

        Raises:
            HTTPError: The request is invalid, too many are waiting, or it waits too long.
        """
        has_many_values = count_values(body[:json_bytes]) > MANY_VALUES
        if json_bytes <= LONG_JSON and not has_many_values:
            return read_request(body, json_bytes, self._limits)
        self._predictor.check_queue(self._num_pending)
        self._num_pending += 1
        try:
            async with asyncio.timeout(self._limits.response_seconds):
                return await self._read_in_thread(
                    self._of_values if has_many_values else self._of_text, body, json_bytes
                )
        except TimeoutError:
            message = "The server is busy with other requests. Try again later, or send binary data."
            raise ServiceUnavailableError(message, "timeout") from None
        finally:
            self._num_pending -= 1

    async def _read_in_thread(self, lock: asyncio.Lock, body: bytes, json_bytes: int) -> InferInput:
        await lock.acquire()
        reading = asyncio.ensure_future(asyncio.to_thread(read_request, body, json_bytes, self._limits))
        reading.add_done_callback(lambda _: lock.release())  # when the thread ends, also after the time limit
        return await asyncio.shield(reading)
