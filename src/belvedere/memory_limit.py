"""How much memory there still is for models.

Knows what the machine and its control group leave; does not know ONNX Runtime.
"""

from contextlib import suppress
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")  # version 2, as containers see theirs
MACHINE = Path("/proc/meminfo")


def memory_left() -> int | None:
    """Return the bytes that this process may still take, by the machine and by its container; None where unknown."""
    left = []
    with suppress(OSError, ValueError):
        [line] = [line for line in MACHINE.read_text().splitlines() if line.startswith("MemAvailable:")]
        left.append(int(line.removeprefix("MemAvailable:").removesuffix("kB")) * 1024)
    with suppress(OSError, ValueError):  # without a bound it says "max"
        limit, used = (int((CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        left.append(max(0, limit - used))
    return min(left, default=None)
