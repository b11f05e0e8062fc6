"""The folder of a page that classifies images in a browser, without a server."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from belvedere.images.content import MAX_BYTES
from belvedere.inference.model import Model
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.inference.page import LOCAL, STATIC
from belvedere.runtime.files import write_bytes, write_text

INDEX, SERVICE_WORKER = "index.html", "service_worker.js"
SUFFIXES = (".js", ".css", ".html", ".svg", ".png", ".txt")
SERVER_PART = re.compile(r"^ *<!-- server -->\n.*?<!-- /server -->\n", re.MULTILINE | re.DOTALL)
PAGE_COMMENT = re.compile(r"^ *(?:<!-- page|/page -->)\n", re.MULTILINE)
MANIFEST = {  # of the web app
    "name": "What is in this image?",
    "short_name": "Belvedere",
    "start_url": "../",
    "display": "standalone",
    "background_color": "#ffffff",
    "theme_color": "#1f6391",
    "icons": [
        {"src": f"icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
        for size in (192, 512)
        for purpose in ("any", "maskable")
    ],
}


def write_page_folder(folder: Path, model: Model, runtime: Mapping[str, bytes]) -> None:
    """Write the page, its model and the runtime of the model into an empty folder.

    All files that depend on each other are in a folder whose name has a hash of them, so that no cache on the way to
    a browser can combine two versions.

    Args:
        folder: An empty folder.
        model: The model, which stays as it is.
        runtime: Contents of the files of onnxruntime-web, by name.
    """
    contents = {**_read_files(STATIC), **_read_files(LOCAL), **runtime}  # LOCAL has another api.js
    index, service_worker = (contents.pop(name).decode() for name in (INDEX, SERVICE_WORKER))
    index = PAGE_COMMENT.sub("", SERVER_PART.sub("", index))
    contents["manifest.webmanifest"] = _to_json(MANIFEST)
    contents["model.json"] = _to_json(_describe(model))
    version = _hash_all(contents | {INDEX: index.encode(), SERVICE_WORKER: service_worker.encode()})
    static = f"static-{version[:12]}"
    page = index.replace('"static/', f'"{static}/')
    hashes = {"./": _sha256(page.encode()), f"{MODEL_NAME}?{model.sha256}": model.sha256}
    hashes |= {f"{static}/{name}": _sha256(content) for name, content in contents.items()}
    lines = f"const VERSION = {json.dumps(version)};\nconst FILES = {json.dumps(hashes)};\n"
    (folder / static).mkdir()
    for name, content in contents.items():
        write_bytes(folder / static / name, content)
    write_bytes(folder / MODEL_NAME, model.content)
    write_text(folder / INDEX, page)
    write_text(folder / SERVICE_WORKER, lines + service_worker)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _describe(model: Model) -> dict[str, Any]:
    """Return what the page needs of the model, with the names of the server's /model."""
    card = model.card
    return {
        "name": MODEL_NAME,
        "sha256": model.sha256,
        "accept_rate": card.uncertainty.ood_acceptance if model.accept_rate is None else model.accept_rate,
        "limits": {"max_body_bytes": MAX_BYTES},
        "card": {
            "class_names": card.class_names,
            "preprocess": asdict(card.preprocess),
            "uncertainty": asdict(card.uncertainty),
        },
    }


def _read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hash_all(contents: Mapping[str, bytes]) -> str:
    """Return a hash of the names and contents of files."""
    return _sha256(json.dumps({name: _sha256(content) for name, content in contents.items()}, sort_keys=True).encode())
