"""Several processes that serve one address."""

import os
import signal
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import belvedere
from belvedere.errors import UsageError
from belvedere.serving.limits import Limits
from belvedere.serving.peers import merge
from belvedere.serving.worker_group import ServiceOptions
from command_line import assert_one_line
from command_line import belvedere as run_belvedere
from serve_process import Server, endless_model, png, serve, wait_until

several = pytest.mark.skipif(sys.platform != "linux", reason="processes share a socket on POSIX; found in /proc")


def children(process: int) -> set[int]:
    """Return the process ids of the children of a process."""
    return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answered(server: Server) -> Counter[str]:
    """Return the number of predicted images by process."""
    found = Counter[str]()
    for line in server.get("/metrics").content.decode().splitlines():
        if line.startswith("belvedere_images_total{") and 'outcome="predicted"' in line:
            name, _, value = line.rpartition(" ")
            found[name.partition('process="')[2].partition('"')[0]] += int(float(value))
    return found


@several
def test_two_processes_answer_and_either_returns_the_metrics_of_both(tiny_model: Path) -> None:
    with serve(tiny_model, "--workers", 2) as server:
        num_sent = 0

        def both_answered() -> bool:
            nonlocal num_sent
            for _ in range(8):
                assert server.post_raw(png("red")).json["predictions"][0]["answer"] == "red"
                num_sent += 1
            return all(answered(server)[name] for name in ("0", "1"))

        wait_until(both_answered)
        for _ in range(8):
            assert answered(server).total() == num_sent
        assert server.metric("belvedere_images_total") == num_sent
        assert server.metric("belvedere_model_info") == 2
        text = server.get("/metrics").content.decode()
        names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
        assert len(names) == len(set(names))
        assert 'process_start_time_seconds{process="0"}' in text
        assert server.end() == 0


@several
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_is_replaced(tiny_model: Path, number: int) -> None:
    with serve(tiny_model, "--workers", 2) as server:
        before = children(server.process.pid)
        assert len(before) == 2
        os.kill(min(before), number)
        assert server.post_raw(png("blue")).status == 200
        wait_until(lambda: len(children(server.process.pid) - {min(before)}) == 2)
        wait_until(lambda: set(answered(server)) == {"0", "1"})  # the new one has its socket
        assert [line["process"] in (0, 1) for line in server.log() if line["level"] == "error"] == [True]
        assert server.post_raw(png("blue")).status == 200
        assert server.end() == 0


@several
def test_the_processes_end_with_the_one_that_started_them(tiny_model: Path) -> None:
    with serve(tiny_model, "--workers", 2) as server:
        found = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_running, found)))


@several
def test_they_share_the_length_of_the_queue(tmp_path: Path) -> None:
    """Each has room for one image of two; an image whose prediction never ends occupies it until the time is over."""
    (tmp_path / "model.onnx").write_bytes(endless_model("bright"))
    codes, start = list[str](), threading.Barrier(8)
    options = "--workers", 2, "--max-queue", 2, "--max-files", 1, "--threads", 1, "--timeout", 3
    with serve(tmp_path / "model.onnx", *options) as server:

        def ask() -> None:
            start.wait()
            codes.append(server.post_raw(png("red")).code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(codes) == {"timeout", "queue_full"}
    assert codes.count("timeout") <= 2


@several
def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(UsageError, match="TMPDIR"):
        belvedere.serve(tiny_model, port=0, workers=2)
    assert list(folder.iterdir()) == []


@several
@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_that_fails_gets_one_line(tiny_model: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "file").write_text("")
    done = run_belvedere("serve", tiny_model, "--port", 0, "--monitor", tmp_path / "file/x", "--workers", workers)
    assert_one_line(done, 2, str(tmp_path / "file/x"))


@pytest.mark.parametrize("workers", [0, -1, 1000, True, 2.0])
def test_impossible_numbers(tiny_model: Path, workers: int) -> None:
    with pytest.raises(UsageError):
        belvedere.serve(tiny_model, port=0, workers=workers)


def test_what_several_processes_cannot_serve(tiny_model: Path) -> None:
    with pytest.raises(UsageError):
        belvedere.serve(tiny_model, port=0, workers=2, block=False)
    with pytest.raises(UsageError):
        belvedere.serve(belvedere.load_model(tiny_model), port=0, workers=2)


def test_limits_are_divided() -> None:
    options = ServiceOptions(Limits(max_queue=256, max_files=32), threads=3)
    divided = options.divide(4)
    assert (divided.limits.max_queue, divided.limits.max_buffered_bytes) == (64, 64_000_000)
    assert divided.limits == replace(options.limits, max_queue=64, max_buffered_bytes=64_000_000)
    assert divided.threads == 3  # of each process, as given
    least = options.divide(100).limits  # a request of each kind must fit
    assert (least.max_queue, least.max_buffered_bytes) == (32, options.limits.max_body_bytes)
    assert replace(options, threads=None).divide(1000).threads == 1


def test_metrics_of_processes_are_not_added_up() -> None:
    one = '# HELP a_total Images.\n# TYPE a_total counter\na_total{name="# HELP x} 1"} 1.0\n'
    other = one.replace(" 1.0", " 2.0") + "# HELP b Seconds.\n# TYPE b gauge\nb 1e-05\n"
    assert merge({"0": one, "1": other}).decode() == (
        '# HELP a_total Images.\n# TYPE a_total counter\na_total{process="0",name="# HELP x} 1"} 1.0\n'
        'a_total{process="1",name="# HELP x} 1"} 2.0\n# HELP b Seconds.\n# TYPE b gauge\nb{process="1"} 1e-05\n'
    )
