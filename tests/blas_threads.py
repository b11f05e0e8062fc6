"""Threads of BLAS."""

from threadpoolctl import threadpool_info


def num_blas_threads() -> set[int]:
    """Return the number of threads of each BLAS library that is loaded."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
