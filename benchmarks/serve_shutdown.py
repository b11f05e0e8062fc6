"""A server that shuts down under load: no accepted request may be lost.

python benchmarks/serve_shutdown.py IMAGE [--model MODEL] [--rounds 10] [--clients 32] [--seconds 3] [--health]

Clients send one request after another and reconnect when the server closes their connection. A request is lost if it
was accepted and no complete response arrived. The server gets SIGTERM under load. `--health` requests GET /healthz
instead of POST /predict, with far more connections. Prints a table.
"""

import argparse
import contextlib
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Seen:
    """Results of the clients."""

    statuses: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    end: threading.Event = field(default_factory=threading.Event)


def ask(host: str, port: int, content: bytes | None, seen: Seen) -> None:
    """Send requests until the server accepts no more."""
    while not seen.end.is_set():
        connection = http.client.HTTPConnection(host, port, timeout=60)
        with contextlib.closing(connection):
            try:
                connection.connect()
            except OSError:
                return
            if not ask_on(connection, content, seen):
                return


def ask_on(connection: http.client.HTTPConnection, content: bytes | None, seen: Seen) -> bool:
    """Send requests on one connection until it closes; return whether all were answered."""
    while True:
        try:
            if content is None:
                connection.request("GET", "/healthz")
            else:
                connection.request("POST", "/predict", content, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            seen.lost[type(error).__name__] += 1
            return False
        seen.statuses[response.status] += 1
        if response.will_close:
            return True


def end_once(command: list[str], content: bytes | None, clients: int, seconds: float) -> tuple[Seen, int, float]:
    """Start a server, load it, stop it; return the results, the exit code and the shutdown time."""
    seen = Seen()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        lines: list[str] = []
        while server.stdout and (not lines or lines[-1] != "}\n"):
            lines.append(server.stdout.readline())
        address = urlsplit(json.loads("".join(lines))["address"])
        given = (str(address.hostname), int(address.port or 0), content, seen)
        threads = [threading.Thread(target=ask, args=given) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        began = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        code = server.wait()
        took = time.perf_counter() - began
        seen.end.set()
        for thread in threads:
            thread.join()
    return seen, code, took


def main() -> int:
    """Measure and print; return 1 if a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--health", action="store_true")
    options = parser.parse_args()
    model = [options.model] if options.model else []
    command = [sys.executable, "-m", "belvedere", "serve", *model, "--port", "0", "--json"]
    content = None if options.health else options.image.read_bytes()
    print("| round | answered, by status | lost | exit code | end, s |")
    print("|---|---|---|---|---|")
    lost = 0
    for number in range(options.rounds):
        seen, code, took = end_once(command, content, options.clients, options.seconds)
        lost += seen.lost.total()
        statuses = ", ".join(f"{count:,} of {status}" for status, count in seen.statuses.items())
        print(f"| {number + 1} | {statuses} | {dict(seen.lost) or 0} | {code} | {took:.1f} |", flush=True)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
