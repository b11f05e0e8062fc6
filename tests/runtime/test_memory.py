"""What the C library keeps and gives back."""

import sys
from pathlib import Path

import pytest
import torch

from belvedere.runtime.memory import keep_freed_memory, trim_memory

BLOCKS, BLOCK_BYTES = 2_000, 50_000  # 100 MB of blocks that are too small to be mapped by themselves


def resident_bytes() -> int:
    """Memory of this process that no file stands behind."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_blocks_are_kept_for_reuse_and_given_back() -> None:
    with keep_freed_memory():
        blocks = [torch.ones(BLOCK_BYTES, dtype=torch.uint8) for _ in range(BLOCKS)]
        last = blocks.pop()  # on top of them: without it they would be given back by themselves
        full = resident_bytes()
        blocks.clear()
        assert resident_bytes() > full - BLOCKS * BLOCK_BYTES / 10
        trim_memory()
        assert resident_bytes() < full - BLOCKS * BLOCK_BYTES * 0.8
    assert last.all()
