"""The exported page in a real browser: its pixels and predictions are Belvedere's, also offline."""

import base64
import io
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import pytest
from PIL import Image

import belvedere
from belvedere.images.decode import read_image
from belvedere.images.heatmap import softmax_over_classes
from belvedere.images.resize import resize_image
from belvedere.inference.model import load_model
from belvedere.inference.postprocess import ModelOutputs, to_predictions
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.types.model import ModelCard, Preprocess, TagModel, Uncertainty
from conftest import CARD
from page_export import runtime_package
from serve_process import activation_map_model, png

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

CHROMIUM = Path("/usr/bin/chromium")
RESIZE = """async ([content, width, height, preprocess]) => {
    const { resizeImage } = await import(new URL("resize.js", document.querySelector("script").src));
    const rgb = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const rgba = new Uint8ClampedArray(width * height * 4);
    for (let at = 0; at < width * height; at += 1) rgba.set([...rgb.subarray(at * 3, at * 3 + 3), 255], at * 4);
    const rows = (top, count) => rgba.subarray(top * width * 4, (top + count) * width * 4);
    return [...resizeImage({ width, height, rows }, preprocess)];
}"""
DECODE = """async (content) => {
    const { decodeImage } = await import(new URL("decode.js", document.querySelector("script").src));
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const { width, height, rows } = await decodeImage(new File([bytes], "image"));
    return [width, height, [...rows(0, height)]];
}"""
INSTALL = """async () => {
    const { installing } = await navigator.serviceWorker.register("service_worker.js");
    return new Promise((done) => installing.addEventListener("statechange", () => done(installing.state)));
}"""
INSTALLED = """async () => {
    const registration = await navigator.serviceWorker.ready;
    await registration.update();
    const found = registration.installing ?? registration.waiting;
    while (found.state === "installing") await new Promise((done) => setTimeout(done, 20));
}"""
CANCEL = """async (content) => {
    const { predict } = await import(new URL("api.js", document.querySelector("script").src));
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const canceled = new AbortController();
    const signals = [null, canceled.signal, canceled.signal, null];
    const calls = signals.map((signal) => predict(new File([bytes], "a.png"), signal));
    canceled.abort();
    return (await Promise.allSettled(calls)).map(({ status }) => status === "fulfilled");
}"""
REJECT = """async (name) => {
    const { decodeImage, ImageError } = await import(new URL("decode.js", document.querySelector("script").src));
    const original = self.createImageBitmap;
    self.createImageBitmap = (file, options) => {
        if ("imageOrientation" in options) throw new Error("Chrome 111 and Firefox 110 reject its present values");
        return Promise.reject(Object.assign(new Error("rejected"), { name }));
    };
    try {
        await decodeImage(new File(["content"], "a.png"));
    } catch (error) {
        return [error.message, error instanceof ImageError];
    } finally {
        self.createImageBitmap = original;
    }
}"""
POSTPROCESS = """async ([outputs, model]) => {
    const { toPrediction } = await import(new URL("postprocess.js", document.querySelector("script").src));
    return outputs.map(({ probabilities, maps, dims, oodScore }) => toPrediction(
        "image", { probabilities, maps: { data: Float32Array.from(maps), dims }, oodScore }, model));
}"""

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium")


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_folder(folder: Path, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Path]]:
    """Return a function that exports the tiny model with class activation maps, with some names of classes."""
    folder = tmp_path_factory.mktemp("exported")
    with runtime_package(folder) as package:

        def export(out: Path, *names: str) -> Path:
            (folder / "model.onnx").write_bytes(activation_map_model(names) if names else activation_map_model())
            belvedere.export(folder / "model.onnx", out, "page", runtime=package, overwrite=True)
            return out

        yield export


@pytest.fixture(scope="module")
def folder(exported: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("page") / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with driver.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def watch(page: "Page", wrong: list[str]) -> "Page":
    """Note errors, also those of the content security policy."""
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    return page


@pytest.fixture(scope="module")
def page(browser: "Browser", folder: Path) -> Iterator["Page"]:
    wrong: list[str] = []
    with serve_folder(folder) as server:
        opened = watch(browser.new_page(), wrong)
        opened.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        yield opened
        assert wrong == []
        opened.context.close()


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("rule", ["stretch", "crop", "letterbox"])
def test_pixels_are_resized_as_pillow_does(page: "Page", rule: str, interpolation: str) -> None:
    random = np.random.default_rng(0)
    sizes = [(15, 11), (12, 12), (70, 20), (33, 90), (5, 7), (11, 14), (200, 13), (14, 200), (41, 11), (1, 1), (24, 22)]
    for height, width in sizes:
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        preprocess = Preprocess(12, 11, rule, interpolation)
        given = {"height": 12, "width": 11, "resize": rule, "interpolation": interpolation}
        found = page.evaluate(RESIZE, [encode(pixels.tobytes()), width, height, given])
        difference = np.abs(np.array(found).reshape(12, 11, 3) - resize_image(pixels, preprocess).astype(int))
        # Older versions of Pillow begin with the columns of tall images, too.
        assert difference.max() <= (0 if int(PIL.__version__.split(".")[0]) >= 13 else 1), (height, width)


def image_files() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (9, 14, 3), dtype=np.uint8)).resize(
        (56, 36), Image.Resampling.BICUBIC
    )
    alpha = Image.fromarray(random.integers(0, 256, (36, 56), dtype=np.uint8))
    exif = Image.Exif()
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("PNG", image, {}),
        ("JPEG", image, {"quality": 95}),
        ("PNG", Image.merge("RGBA", [*image.split(), alpha]), {}),
        ("PNG", image.quantize(16), {"transparency": 3}),
        ("JPEG", image.convert("L"), {}),
        ("PNG", image.resize((5000, 2)), {}),
        ("PNG", image.resize((2, 5000)), {}),
        *(("JPEG", image, {"exif": exif, "orientation": value}) for value in (2, 3, 6, 8)),
    ]
    for kind, changed, options in kinds:
        if value := options.pop("orientation", None):
            exif[0x0112] = value
        file = io.BytesIO()
        changed.save(file, kind, **options)
        yield f"{kind} {changed.mode} {value}", file.getvalue()


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in image_files()])
def test_files_are_decoded_as_belvedere_does(page: "Page", content: bytes) -> None:
    width, height, levels = page.evaluate(DECODE, encode(content))
    expected = read_image(content)
    assert (height, width) == expected.shape[:2]
    found = np.array(levels).reshape(height, width, 4)
    assert np.abs(found[..., :3] - expected.astype(int)).max() <= 1
    assert found[..., 3].min() == 255


@pytest.mark.parametrize("has_cross_weights", [False, True])
def test_outputs_become_the_same_predictions(page: "Page", has_cross_weights: bool) -> None:
    random = np.random.default_rng(2)
    number, names = 60, ("a", "b", "c", "d", "<e>")
    maps = random.normal(0, 3, (number, 5, 3, 4)).astype(np.float32)
    cross = tuple(map(tuple, random.normal(0, 0.2, (5, 5)).tolist())) if has_cross_weights else ()
    uncertainty = Uncertainty(
        temperature=1.3,
        conformal_threshold=0.8,
        ood_score_quantiles=tuple(np.sort(random.normal(0, 1, 21)).tolist()),
        tag_model=TagModel((1.0, 0.5, 2.0, 0.8, 1.2), (-2.0, -1.0, -3.0, -2.0, -1.5), cross),
    )
    card: ModelCard = replace(CARD, class_names=names, uncertainty=uncertainty)
    logits = maps.mean((2, 3))
    probabilities = softmax(logits / np.float32(0.7))
    probabilities[0] = 0.2  # all equal
    scores = np.concatenate([np.linspace(-3, 5, number - 2), uncertainty.ood_score_quantiles[::20]]).astype(np.float32)
    outputs = ModelOutputs(logits, probabilities, logits, maps, scores)
    expected = [each.to_dict() for each in to_predictions(outputs, card, ["image"] * number, [()] * number)]
    assert {each["none_of_these"] for each in expected} == {True, False}
    assert max(len(as_list(each["tags"])) for each in expected) >= 3
    given = [
        {"probabilities": row.tolist(), "maps": each.ravel().tolist(), "dims": [1, 5, 3, 4], "oodScore": float(score)}
        for row, each, score in zip(probabilities, maps, scores, strict=True)
    ]
    model = {"card": asdict(card), "accept_rate": 0.95}
    found: list[dict[str, Any]] = page.evaluate(POSTPROCESS, [given, model])
    for one, other, each in zip(expected, found, maps, strict=True):
        heatmap = softmax_over_classes(each / np.float32(uncertainty.temperature))
        assert np.array(other.pop("heatmap")) == pytest.approx(heatmap, abs=6e-5)  # four decimals
        assert_close(one, other)


def as_list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


def assert_close(one: object, other: object) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_close(first, second)
    else:
        assert other == (pytest.approx(one, abs=2e-6) if isinstance(one, float) else one)


def upload(page: "Page", *images: tuple[str, bytes]) -> list[str]:
    """Choose images, and return the text of their cards."""
    files: list[FilePayload] = [{"name": name, "mimeType": "image/png", "buffer": each} for name, each in images]
    page.set_input_files("#files", files)
    page.locator(".card[aria-busy=false]").nth(page.locator(".card").count() - 1).wait_for()
    return page.locator(".card").all_inner_texts()


def test_images_are_predicted_on_the_device(page: "Page", folder: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    images = [("red.png", png("red", side=64)), ("noise.png", file.getvalue())]
    texts = upload(page, *images, ("torn.png", png("red")[:40]), ("text.jpg", b"no image"), ("empty.jpg", b""))
    assert page.locator("#about").inner_text() == "Classes of this model: blue, green and red."
    assert page.locator(".card.failed").count() == 3
    assert all("The image cannot be read" in text for text in texts[2:])
    assert "empty file" in texts[4]
    with page.expect_download() as download:
        page.click("#all-json")
    found = json.loads(download.value.path().read_text())
    expected = load_model(folder).predict([content for _, content in images])
    for response, reference in zip(found, expected, strict=True):
        [prediction] = response["predictions"]
        assert prediction.pop("heatmap") is not None
        assert_close(reference.to_dict() | {"image": prediction["image"]}, prediction)
    assert page.locator(".shown canvas").count() == 2
    page.click("#clear")


def test_it_works_offline_and_shows_a_new_model_at_once(
    browser: "Browser", exported: Callable[..., Path], tmp_path: Path
) -> None:
    out, wrong = exported(tmp_path / "out"), list[str]()
    context = browser.new_context()
    with serve_folder(out) as server:
        port = server.server_address[1]
        page = watch(context.new_page(), wrong)
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate("() => navigator.serviceWorker.ready.then(() => null)")
    page.reload()
    assert "green" in upload(page, ("a.png", png("green", side=64)))[0]
    exported(out, "sky", "grass", "brick")
    with serve_folder(out, port):
        page.reload()
        page.get_by_text("sky, grass and brick").wait_for()
        assert "grass" in upload(page, ("a.png", png("green", side=64)))[0]
        page.evaluate(INSTALLED)
    page.reload()
    page.get_by_text("blue, green and red").wait_for()  # offline, until all tabs are closed
    assert "green" in upload(page, ("a.png", png("green", side=64)))[0]
    page.close()
    page = watch(context.new_page(), wrong)
    page.goto(f"http://127.0.0.1:{port}/index.html?from=home")
    page.get_by_text("sky, grass and brick").wait_for()
    assert "grass" in upload(page, ("a.png", png("green", side=64)))[0]
    assert len(page.evaluate("() => caches.keys()")) == 1
    context.close()
    assert wrong == []


def test_a_host_that_does_not_respond_is_not_waited_for(browser: "Browser", folder: Path) -> None:
    context = browser.new_context()
    with serve_folder(folder) as server:
        port = server.server_address[1]
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate("() => navigator.serviceWorker.ready.then(() => null)")
    with socket.create_server(("127.0.0.1", port)):  # accepts, and sends nothing
        page.reload()
        page.get_by_text("blue, green and red").wait_for()
    context.close()


@pytest.mark.parametrize("stale", ["model.onnx", "index.html"])
def test_a_folder_with_files_of_two_versions_is_not_used(
    stale: str, browser: "Browser", exported: Callable[..., Path], tmp_path: Path
) -> None:
    """While a host is updated, or from caches between it and the browser."""
    before = exported(tmp_path / "before", "sky", "grass", "brick")
    out = exported(tmp_path / "out")
    shutil.copytree(next(before.glob("static-*")), out / next(before.glob("static-*")).name)
    (out / stale).write_bytes((before / stale).read_bytes())
    with serve_folder(out) as server:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.locator("#about").get_by_text("Classes").wait_for()
        assert "model.onnx is of another version" in upload(page, ("a.png", png("green", side=64)))[0]
        state = page.evaluate(INSTALL)
        assert state == "redundant"
        assert page.evaluate("() => caches.keys()") == []
        page.context.close()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("model.json", "model.json: HTTP status 404"),
        ("model.onnx", "model.onnx: HTTP status 404"),
        ("onnxruntime-web.wasm", "no available backend"),
        ("worker.js", "cannot be started"),
    ],
)
def test_a_file_that_is_missing_can_be_tried_again(
    missing: str, reason: str, browser: "Browser", exported: Callable[..., Path], tmp_path: Path
) -> None:
    out = exported(tmp_path / "out")
    [file] = out.rglob(missing)
    file.rename(tmp_path / missing)
    with serve_folder(out) as server:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        assert reason in upload(page, ("a.png", png("green", side=64)))[0]
        (tmp_path / missing).rename(file)
        page.get_by_role("button", name="Try again").click()
        page.locator(".card .row").first.wait_for()
        assert page.locator(".verdict").inner_text().startswith("green")
        page.get_by_text("Classes of this model: blue, green and red.").wait_for()
        page.context.close()


def test_cleared_images_are_not_predicted(page: "Page") -> None:
    found: list[bool] = page.evaluate(CANCEL, encode(png("green", side=64)))
    assert found == [True, False, False, True]


@pytest.mark.parametrize(("error", "is_of_image"), [("InvalidStateError", True), ("TypeError", False)])
def test_an_error_of_the_page_is_no_damaged_image(page: "Page", error: str, is_of_image: bool) -> None:
    message, found = page.evaluate(REJECT, error)
    assert found is is_of_image
    assert message.startswith("damaged" if is_of_image else "rejected")
