"""The command serve; tests/serving starts it."""

from pathlib import Path

import pytest

from command_line import assert_one_line, belvedere


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("nowhere",), 1, "nowhere"),
        (("--port", "65536"), 2, "65536"),
        (("--threads", "0"), 2, "0"),
        (("--token-file", "nowhere"), 2, "nowhere"),
        (("--max-body-mb", "nan"), 2, "nan"),
        (("--cors-origin", "example.com"), 2, "example.com"),
        (("--host", "no.such.host.invalid", "--port", "0"), 2, "--host"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, word: str) -> None:
    assert_one_line(belvedere("serve", *arguments, cwd=tmp_path), code, word)
