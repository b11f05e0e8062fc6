"""A Hugging Face Hub on this machine: the requests that huggingface_hub sends to make, fill and read a repository."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LFS_SUFFIXES = (".onnx", ".safetensors", ".png")
WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
OF_MODEL = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/(preupload|commit)/main)?")


@dataclass
class Repository:
    """A repository, with the files of each commit; the last one is main."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        return next(reversed(self.commits.values()), {})

    def commit(self, files: dict[str, bytes]) -> str:
        content = self.files | files
        name = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:40]
        self.commits[name] = content
        return name


class Hub(ThreadingHTTPServer):
    """The server, with its repositories, uploaded blobs and the requests that it received."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.received: list[str] = []
        self.cards: list[str] = []  # that were sent to be checked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def run_hub() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        self.server.received.append(f"GET {self.path}")
        if not (found := OF_MODEL.fullmatch(self.path)):
            self._resolve()
        elif (repository := self._visible(found[1])) is not None:
            self._send_json({"id": found[1], "private": repository.private, "tags": [], "siblings": []})

    def do_PUT(self) -> None:
        oid, content = self.path.removeprefix("/upload/"), self._body()
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.blobs[oid] = content
        self._send(200, b"")

    def do_POST(self) -> None:
        self.server.received.append(f"POST {self.path}")
        body = self._body()
        if self.path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._send_json({"warnings": [], "errors": []})
        elif self._token() not in (WRITE_TOKEN, READ_TOKEN):
            self._refuse(401, "Invalid credentials in Authorization header")
        elif self._token() == READ_TOKEN:
            self._refuse(403, "You don't have the rights to create a model")
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif (found := OF_MODEL.fullmatch(self.path)) and found[2] == "preupload":
            files = [{"path": each["path"], "shouldIgnore": False} for each in json.loads(body)["files"]]
            modes = [{"uploadMode": "lfs" if each["path"].endswith(LFS_SUFFIXES) else "regular"} for each in files]
            self._send_json({"files": [each | mode for each, mode in zip(files, modes, strict=True)]})
        elif found:
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            self._send_json(url, 409)
            return
        self.server.repositories[name] = Repository(wanted.get("visibility") == "private")
        self._send_json(url)

    def _batch(self, wanted: dict[str, list[dict[str, str]]]) -> None:
        objects = [
            each | {"actions": {"upload": {"href": f"{self.server.url}/upload/{each['oid']}"}}}
            for each in wanted["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        files = {}
        for line in lines[1:]:
            value, kind = line["value"], str(line["key"])
            is_lfs = kind == "lfsFile"
            files[value["path"]] = self.server.blobs[value["oid"]] if is_lfs else base64.b64decode(value["content"])
        commit = self.server.repositories[name].commit(files)
        self._send_json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self) -> None:
        found = RESOLVE.fullmatch(self.path)
        if found is None or (repository := self._visible(found[1])) is None:
            return
        revision = next(reversed(repository.commits)) if found[2] == "main" else found[2]
        if repository.gated:
            self._refuse(403, "Access to the model is restricted", "GatedRepo")
        elif revision not in repository.commits:
            self._refuse(404, "Invalid rev id", "RevisionNotFound")
        elif found[3] not in repository.commits[revision]:
            self._refuse(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": revision})
        else:
            content = repository.commits[revision][found[3]]
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"X-Repo-Commit": revision, "ETag": f'"{etag}"'})

    def _visible(self, name: str) -> Repository | None:
        """Return a repository, or refuse."""
        repository = self.server.repositories.get(name)
        is_visible = repository is not None and (not repository.private or self._token() == WRITE_TOKEN)
        if is_visible:
            return repository
        self._refuse(404 if self._token() else 401, "Repository not found", "RepoNotFound")
        return None

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _refuse(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Message": message, "X-Error-Code": code} | (headers or {}))

    def _send_json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
