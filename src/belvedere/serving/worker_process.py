"""One of several processes of a server, which `worker_group` starts: options come as a line of JSON on stdin."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from belvedere.errors import BelvedereError
from belvedere.runtime.parallel import BackgroundThread, running_threads
from belvedere.serving.json_logging import json_log
from belvedere.serving.listening import inherit_place
from belvedere.serving.peers import Peers
from belvedere.serving.server import make_server, run_server
from belvedere.serving.worker_group import ServiceOptions

END_SECONDS = 0.5  # for threads to end


def main() -> None:
    """Serve until SIGTERM, or until the process that started this one has ended."""
    values: dict[str, Any] = json.loads(sys.stdin.readline())
    with json_log():
        code = _serve(values)
    if running_threads(END_SECONDS):  # in native code, which aborts the interpreter's exit
        os._exit(code)
    sys.exit(code)


def _serve(values: Mapping[str, Any]) -> int:
    place, peers = inherit_place(*values["place"]), Peers(Path(values["folder"]), values["number"])
    try:
        options = ServiceOptions.from_dict(values["options"])
        server = make_server(values["models"], options, place, lambda *_: _tell({}), peers)
    except BelvedereError as error:
        _tell({"error": str(error)})
        return 1

    def end_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    BackgroundThread(end_with_parent, "parent").start()
    run_server(server, place)
    return 0


def _tell(content: Mapping[str, str]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
