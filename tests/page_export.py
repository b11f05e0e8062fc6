"""A package of onnxruntime-web for tests: the real one that an environment variable names, or a substitute."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from belvedere.fetching import onnxruntime_web

PACKAGE_ENV = "BELVEDERE_ORT_WEB"  # path of onnxruntime-web-VERSION.tgz
SUBSTITUTE = """
// Computes what conftest.model_bytes and serve_process.activation_map_model do, without WebAssembly.
export const env = { wasm: {} };
export class Tensor {
    constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
function mean(data, side, channel, top, left, size) {
    let total = 0;
    for (let y = top; y < top + size; y += 1)
        for (let x = left; x < left + size; x += 1) total += data[(y * side + x) * 3 + channel];
    return Math.fround(total / size / size / 50);
}
let failure = null;
async function start() { // the real one does not try again after a failure, either
    const response = await fetch(env.wasm.wasmPaths.wasm);
    if (!response.ok) failure ??= new Error(`no available backend: HTTP status ${response.status}`);
    if (failure) throw failure;
}
export const InferenceSession = {
    async create(content) {
        if (failure) throw failure;
        await start();
        if (!content.length) throw new Error("empty model");
        return { outputNames: ["logits", "probabilities", "embedding", "class_activation_maps"], run };
    },
};
async function run({ images: { data, dims: [, side] } }) {
    const half = side / 2;
    const corners = [[0, 0], [0, half], [half, 0], [half, half]];
    const logits = [2, 1, 0].map((channel) => mean(data, side, channel, 0, 0, side));
    const powers = logits.map(Math.exp);
    const total = powers.reduce((sum, power) => sum + power, 0);
    const quarters = (channel) => corners.map(([top, left]) => mean(data, side, channel, top, left, half));
    return {
        probabilities: new Tensor("float32", Float32Array.from(powers, (power) => power / total), [1, 3]),
        class_activation_maps: new Tensor("float32", Float32Array.from([2, 1, 0].flatMap(quarters)), [1, 3, 2, 2]),
    };
}
"""


def pack(script: str) -> bytes:
    """Return a package with a script in place of the runtime."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member in onnxruntime_web.FILES.values():
            content = script.encode() if member.endswith(".mjs") else b"\0asm"
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@contextmanager
def runtime_package(folder: Path) -> Iterator[Path]:
    """Yield the real package, or a substitute in the folder, which is accepted within the block."""
    if given := os.environ.get(PACKAGE_ENV):
        yield Path(given)
        return
    content = pack(SUBSTITUTE)
    (folder / "onnxruntime-web.tgz").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime_web, "SHA256", hashlib.sha256(content).hexdigest())
        yield folder / "onnxruntime-web.tgz"
