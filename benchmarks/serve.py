"""The server under load, compared with `belvedere predict` on the same images.

python benchmarks/serve.py FOLDER [--model MODEL] [--seconds 60] [--clients 64]

Prints a Markdown table: throughput of offline `predict`, of the server with all clients, and of the server with
broken, oversized and slow requests mixed in; statuses, latencies and memory.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

BROKEN, OVERSIZED, SLOW = 0.05, 0.05, 0.01  # fractions of the clients' requests
LARGE = bytes(1_500_000)
MEGABYTES, SECONDS = 1, 10
SLOW_PIECE_SECONDS = 1.0
WARM_UP_SECONDS = 5.0
BOUNDARY = "belvedere-boundary"


@dataclass
class Seen:
    """Results of a group of clients."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


async def ask(host: str, port: int, request: bytes, *, slowly: bool = False) -> str:
    """One request on a connection of its own; returns the status, or what went wrong."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if slowly:
            for position in range(0, len(request), 100):
                writer.write(request[position : position + 100])
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), SLOW_PIECE_SECONDS)
                    return "cut off"  # the server has had enough
        writer.write(request)
        return await read_reply(reader)
    except (ConnectionError, asyncio.IncompleteReadError):
        return "connection lost"
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader) -> str:
    """Read one response and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head.split(b" ", 2)[1].decode()


def post(content: bytes, field: str | None = None) -> bytes:
    """Request a prediction for one image: the image alone, or as a field of a form."""
    kind = "image/jpeg"
    if field:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"\r\n'
        content = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def good_client(host: str, port: int, requests: list[bytes], until: float, seen: Seen) -> None:
    """Send one image after the other on a kept-alive connection."""
    reader, writer = await asyncio.open_connection(host, port)
    while (began := time.perf_counter()) < until:
        writer.write(random.choice(requests))  # noqa: S311 - nothing is guarded by it
        try:
            status = await read_reply(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            seen.statuses["connection lost"] += 1
            reader, writer = await asyncio.open_connection(host, port)
            continue
        seen.statuses[status] += 1
        seen.seconds.append(time.perf_counter() - began)
        if status == "503":
            await asyncio.sleep(1)
    writer.close()


async def bad_client(host: str, port: int, kind: str, requests: list[bytes], until: float, seen: Seen) -> None:
    """Sends what must be refused, about as often as a good client asks."""
    wrong = {"broken": post(requests[0][200:4000]), "oversized": post(LARGE), "slow": post(LARGE[:100_000])}
    while time.perf_counter() < until:
        try:
            seen.statuses[await ask(host, port, wrong[kind], slowly=kind == "slow")] += 1
        except OSError:
            seen.statuses["connection lost"] += 1
        await asyncio.sleep(0.05)


async def load(options: argparse.Namespace, files: list[Path]) -> dict[str, Seen]:
    """Lets all clients ask at once for so long."""
    host, port = options.load.removeprefix("http://").split(":")
    clients, seconds, mixed = options.clients, options.seconds, options.mixed
    requests = [post(file.read_bytes(), options.field) for file in files]
    groups = {"broken": round(clients * BROKEN), "oversized": round(clients * OVERSIZED), "slow": 1} if mixed else {}
    seen = {kind: Seen() for kind in ("good", *groups)}
    until = time.perf_counter() + seconds
    work = [
        bad_client(host, int(port), kind, requests, until, seen[kind])
        for kind, count in groups.items()
        for _ in range(max(1, count))
    ]
    work += [good_client(host, int(port), requests, until, seen["good"]) for _ in range(clients - len(work))]
    await asyncio.gather(*work)
    return seen


def run_load(
    address: str, folder: Path, clients: int, seconds: float, mixed: bool, field: str | None = None
) -> dict[str, dict[str, object]]:
    """Run the clients in a process of their own; `field`: of the form of another server."""
    command = [sys.executable, __file__, str(folder), "--clients", str(clients), "--seconds", str(seconds)]
    command += ["--load", address, *(["--mixed"] if mixed else []), *(["--field", field] if field else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, dict[str, object]] = json.loads(done.stdout)
    return document


def report_load(options: argparse.Namespace, files: list[Path]) -> None:
    """Run in the client process: print the results as JSON."""
    seen = asyncio.run(load(options, files))
    shown = {}
    for kind, group in seen.items():
        times = sorted(group.seconds) or [0.0]
        quantiles = {f"p{each}": times[min(len(times) - 1, len(times) * each // 100)] for each in (50, 95, 99)}
        shown[kind] = {"statuses": dict(group.statuses), "num_ok": group.statuses["200"], **quantiles}
    print(json.dumps(shown))


def predict_offline(model: list[str], folder: Path) -> float:
    """Return images per second of `belvedere predict`, from two lengths to exclude the start."""
    with tempfile.TemporaryDirectory() as temporary:
        halves = {}
        files = sorted(folder.rglob("*.jpg"))
        few = Path(temporary) / "few"
        few.mkdir()
        for number, file in enumerate(files[: len(files) // 5]):
            (few / f"{number}.jpg").symlink_to(file.resolve())
        for name, source in (("few", few), ("all", folder)):
            command = [sys.executable, "-m", "belvedere", "predict", *model, str(source)]
            began = time.perf_counter()
            subprocess.run([*command, "--out", f"{temporary}/{name}.csv"], check=True, capture_output=True)
            halves[name] = time.perf_counter() - began
        return (len(files) - len(files) // 5) / (halves["all"] - halves["few"])


def memory_mb(process: int) -> float:
    """Return the resident memory of a process in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def metric(address: str, name: str) -> float:
    """Return a server metric summed over its labels."""
    with urllib.request.urlopen(f"{address}/metrics") as reply:  # noqa: S310 - our own server
        lines = reply.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--field", help=argparse.SUPPRESS)
    parser.add_argument("--mixed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = sorted(options.data.rglob("*.jpg"))
    if options.load:
        report_load(options, files)
        return
    model = [options.model] if options.model else []
    command = [sys.executable, "-m", "belvedere", "serve", *model, "--port", "0", "--json"]
    command += ["--max-body-mb", str(MEGABYTES), "--timeout", str(SECONDS)]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        lines: list[str] = []
        while server.stdout and (not lines or lines[-1] != "}\n"):
            lines.append(server.stdout.readline())
        started = time.perf_counter() - began
        measure(options, model, json.loads("".join(lines))["address"], server, started, len(files))


def measure(
    options: argparse.Namespace,
    model: list[str],
    address: str,
    server: subprocess.Popen[str],
    started: float,
    files: int,
) -> None:
    """Run the three parts and print their table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {files:,} images")
    print(f"server started in {started:.1f} s; {options.clients} clients at once for {options.seconds:g} s\n")
    print("| part | images/s | of offline | p50 / p95 / p99 | statuses | images per batch | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    offline = predict_offline(model, options.data)
    print(f"| `belvedere predict` | {offline:.1f} | 1 | | | | |", flush=True)
    run_load(address, options.data, options.clients, WARM_UP_SECONDS, mixed=False)
    for name, mixed in (("service", False), ("service, bad clients mixed in", True), ("service, again", False)):
        before = {each: metric(address, f"belvedere_batch_size_{each}") for each in ("sum", "count")}
        memory = memory_mb(server.pid)
        seen = run_load(address, options.data, options.clients, options.seconds, mixed)
        good = seen["good"]
        rate = float(str(good["num_ok"])) / options.seconds
        after = {each: metric(address, f"belvedere_batch_size_{each}") for each in ("sum", "count")}
        batch = (after["sum"] - before["sum"]) / max(1, after["count"] - before["count"])
        times = " / ".join(f"{float(str(good[each])):.2f}" for each in ("p50", "p95", "p99"))
        statuses = "; ".join(f"{kind}: {group['statuses']}" for kind, group in seen.items()).replace("'", "")
        memories = f"{memory:.0f} to {memory_mb(server.pid):.0f}"
        print(
            f"| {name} | {rate:.1f} | {rate / offline:.2f} | {times} s | {statuses} | {batch:.1f} | {memories} |",
            flush=True,
        )
    offline = predict_offline(model, options.data)
    print(f"| `belvedere predict`, again | {offline:.1f} | | | | | |", flush=True)
    server.terminate()
    print(f"\nexit code after SIGTERM: {server.wait()}")


if __name__ == "__main__":
    main()
