"""Fuzz a running server by its OpenAPI document: no response may be 5xx.

python benchmarks/serve_fuzz.py [--examples 300] [--schemathesis PATH]

Needs schemathesis in an environment of its own: python -m venv fuzz; fuzz/bin/pip install schemathesis; then
--schemathesis fuzz/bin/schemathesis. Runs twice: without and with a token.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

TOKEN = "a-token-to-fuzz-with"  # noqa: S105 - of a server that ends with this script
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,missing_required_header,unsupported_method,allow_header_conformance,ignored_auth"
)


def fuzz(schemathesis: str, examples: int, token: str) -> int:
    """Start a server, run schemathesis against it, and return its exit code."""
    command = [
        sys.executable,
        "-m",
        "belvedere",
        "serve",
        "--port",
        "0",
        "--json",
        "--max-body-mb",
        "1",
        "--timeout",
        "5",
    ]
    with tempfile.TemporaryFile() as log:
        environment = os.environ | {"BELVEDERE_TOKEN": token}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        lines: list[str] = []
        while server.stdout and (not lines or lines[-1] != "}\n"):
            lines.append(server.stdout.readline())
        address = json.loads("".join(lines))["address"]
        run = [schemathesis, "run", f"{address}/openapi.json", "--checks", CHECKS, "--max-examples", str(examples)]
        run += ["--continue-on-failure", "--generation-database", "none"]
        run += ["--header", f"Authorization: Bearer {token}"] if token else []
        code = subprocess.run(run, check=False).returncode
        server.terminate()
        if server.wait() != 0:
            raise RuntimeError("the server did not end well")
        log.seek(0)
        lines = [line for line in log.read().decode().splitlines() if line.startswith("{")]
        statuses = [json.loads(line).get("status", 0) for line in lines]
        failed = sum(status >= 500 for status in statuses)
        print(f"{len(statuses):,} requests in the server's log, {failed} of them answered with 5xx")
        return code or int(failed > 0)


def main() -> int:
    """Fuzz without and with a token; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--schemathesis", default="schemathesis")
    options = parser.parse_args()
    return max(fuzz(options.schemathesis, options.examples, token) for token in ("", TOKEN))


if __name__ == "__main__":
    sys.exit(main())
