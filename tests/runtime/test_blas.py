"""The limit of BLAS threads holds while any block runs, and is restored afterwards."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from belvedere.runtime.blas import SingleBlasThread
from blas_threads import num_blas_threads


def test_blocks_that_overlap_share_the_limit() -> None:
    assert np.ones((2, 2)) @ np.ones((2, 2)) is not None  # BLAS is loaded
    first = second = SingleBlasThread()
    with threadpool_limits(2, "blas"):
        first.__enter__()
        second.__enter__()
        assert num_blas_threads() == {1}
        first.__exit__(None, None, None)
        assert num_blas_threads() == {1}  # the second block is still running
        second.__exit__(None, None, None)
        assert num_blas_threads() == {2}


def test_an_error_restores_the_limit() -> None:
    with threadpool_limits(2, "blas"):
        with pytest.raises(ZeroDivisionError), SingleBlasThread():
            raise ZeroDivisionError
        assert num_blas_threads() == {2}
