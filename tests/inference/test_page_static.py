"""The page in a real browser: Debian's Chromium, driven as a person would."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import CLASS_NAMES
from serve_process import Server, activation_map_model, png, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page, Route

CHROMIUM = Path("/usr/bin/chromium")
PHONE: Mapping[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
Opener = Callable[..., "Page"]

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("page") / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(file, "--max-body-mb", 0.2) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with driver.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def open_page(browser: "Browser", server: Server) -> Iterator[Opener]:
    """Opens the page; at the end, nothing must have gone wrong in it or have been asked of another machine."""
    wrong: list[str] = []
    contexts = []

    def open_(address: str = server.address, **options: Any) -> "Page":
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("filechooser", lambda _: None)  # the browser's own dialog never opens
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "blob:")) else wrong.append(request.url),
        )
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def file_of(name: str, content: bytes, kind: str = "image/png") -> "FilePayload":
    return {"name": name, "mimeType": kind, "buffer": content}


def answered(page: "Page", count: int) -> None:
    page.locator(".card[aria-busy=false]").nth(count - 1).wait_for()


def drop(page: "Page", event: str, files: Mapping[str, bytes]) -> None:
    """Drops or pastes files, as the browser tells a page of it."""
    page.evaluate(
        """([event, files]) => {
            const data = new DataTransfer();
            for (const [name, content] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const target = document.querySelector("#drop");
            const options = { bubbles: true, cancelable: true };
            if (event === "paste") {
                target.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
            } else {
                target.dispatchEvent(new DragEvent("dragenter", { ...options, dataTransfer: data }));
                target.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: data }));
            }
        }""",
        [event, {name: base64.b64encode(content).decode() for name, content in files.items()}],
    )


def test_chosen_images_are_predicted_and_kept_in_order(open_page: Opener) -> None:
    page = open_page()
    assert "blue, green and red" in page.locator("#about").inner_text()
    page.set_input_files("#files", [file_of(f"{name}.png", png(name, side=64)) for name in CLASS_NAMES])
    answered(page, 3)
    assert [text.split()[0] for text in page.locator(".verdict").all_inner_texts()] == list(CLASS_NAMES)
    assert page.locator("#count").inner_text() == "3 images"
    assert page.locator(".card").first.locator(".row").count() == 3
    widths = [bar.evaluate("each => each.style.width") for bar in page.locator(".card").first.locator(".track i").all()]
    assert all(re.fullmatch(r"[\d.]+%", width) for width in widths)
    page.set_input_files("#files", [file_of("later.png", png("red"))])
    answered(page, 4)
    assert page.locator("figcaption").first.inner_text() == "later.png"
    page.click("#clear")
    assert page.locator(".card").count() == 0
    assert page.locator("#choose").evaluate("each => each === document.activeElement")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_images_may_be_dropped_and_pasted(open_page: Opener, event: str) -> None:
    page = open_page()
    drop(page, event, {"one.png": png("green", side=32), "two.png": png("blue", side=32)})
    answered(page, 2)
    assert [text.split()[0] for text in page.locator(".verdict").all_inner_texts()] == ["green", "blue"]
    assert "dragging" not in (page.locator("body").get_attribute("class") or "")


COUNT_SERIALIZED = """() => {
  const stringify = JSON.stringify;
  globalThis.serialized = 0;
  JSON.stringify = (value, replacer, space) => {
    if (space) globalThis.serialized += 1;
    return stringify(value, replacer, space);
  };
}"""


def test_the_answer_can_be_saved_as_json(open_page: Opener) -> None:
    page = open_page()
    page.evaluate(COUNT_SERIALIZED)
    page.set_input_files("#files", [file_of("a.png", png("red")), file_of("b.png", png("blue"))])
    answered(page, 2)
    with page.expect_download() as one:
        page.locator(".card a").first.click()
    assert one.value.suggested_filename == "a.png.json"
    document = json.loads(one.value.path().read_text())
    assert document["predictions"][0]["predicted_label"] == "red"
    with page.expect_download() as every:
        page.click("#all-json")
    saved = json.loads(every.value.path().read_text())
    assert [each["predictions"][0]["predicted_label"] for each in saved] == ["red", "blue"]
    assert page.evaluate("serialized") == 2  # each response once, not all of them again for each image


def test_the_heatmap_lies_over_the_image(open_page: Opener) -> None:
    page = open_page()
    page.set_input_files("#files", [file_of("a.png", png("red", side=64))])
    answered(page, 1)
    canvas, slider = page.locator(".shown canvas"), page.locator(".slider input")
    assert canvas.evaluate("each => each.style.opacity") == "0"
    slider.fill("80")
    assert canvas.evaluate("each => each.style.opacity") == "0.8"
    middle = "each => [...each.getContext('2d').getImageData(32, 32, 1, 1).data]"
    red = canvas.evaluate(middle)
    page.get_by_role("radio", name="blue").check(force=True)
    blue = canvas.evaluate(middle)
    assert sum(red[:3]) > sum(blue[:3]) + 100  # what speaks for red is light, what does not for blue is dark
    over, under = canvas.bounding_box(), page.locator(".shown img").bounding_box()
    assert over is not None
    assert under is not None
    assert over["width"] == pytest.approx(under["width"], abs=2)


@pytest.mark.parametrize("name", ["red", "blue"])
def test_a_chosen_class_is_shown_at_once(open_page: Opener, name: str) -> None:
    """Also the most probable one, which is chosen from the beginning; a slider that was moved stays."""
    page = open_page()
    page.set_input_files("#files", [file_of("a.png", png("red", side=64))])
    answered(page, 1)
    canvas, slider = page.locator(".shown canvas"), page.locator(".slider input")
    canvas.wait_for(state="attached")
    page.locator(".row", has_text=name).click()
    assert slider.input_value() == "70"
    assert canvas.evaluate("each => each.style.opacity") == "0.7"
    slider.fill("30")
    page.locator(".row", has_text="green").click()
    assert canvas.evaluate("each => each.style.opacity") == "0.3"


def test_errors_are_shown_at_their_image(open_page: Opener, server: Server) -> None:
    page = open_page()
    files = [file_of("torn.png", png("red")[:40]), file_of("large.png", bytes(300_000)), file_of("a.png", png("red"))]
    page.set_input_files("#files", files)
    answered(page, 3)
    torn, large, good = page.locator(".card").all()
    assert "The image cannot be read" in torn.inner_text()
    assert "the limit is 0 MB" in large.inner_text()
    assert "red" in good.inner_text()
    page.route("**/predict*", lambda route: route.abort())
    page.set_input_files("#files", [file_of("lost.png", png("blue"))])
    answered(page, 4)
    lost = page.locator(".card").first
    assert "cannot be reached" in lost.inner_text()
    page.unroute("**/predict*")
    lost.get_by_role("button", name="Try again").click()
    page.locator(".card").first.locator(".row").first.wait_for()
    assert "blue" in lost.inner_text()
    assert server.process.poll() is None


def test_a_busy_server_is_asked_again(open_page: Opener) -> None:
    page, asked = open_page(), []

    def busy_once(route: "Route") -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            refusal = {"error": {"code": "queue_full", "message": "The queue is full."}}
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=refusal)
        else:
            route.continue_()

    page.route("**/predict*", busy_once)
    page.set_input_files("#files", [file_of("a.png", png("red"))])
    answered(page, 1)
    assert "red" in page.locator(".verdict").inner_text()
    assert len(asked) == 2


def test_tags_prediction_sets_and_none_of_these_are_shown(open_page: Opener, server: Server) -> None:
    page = open_page()
    answer = server.post_raw(png("red", side=32), "/predict?heatmaps=true").json
    [said] = answer["predictions"]
    said["tags"] = [
        {"name": "red", "area_fraction": 0.7, "confidence": 0.9},
        {"name": "<b>", "area_fraction": 0.3, "confidence": 0.6},
    ]
    said["prediction_set"], said["none_of_these"] = ["red", "blue"], False
    page.route("**/predict*", lambda route: route.fulfill(json=answer))
    page.set_input_files("#files", [file_of("a.png", png("red"))])
    answered(page, 1)
    text = page.locator(".card").first.inner_text()
    assert "red 70%" in text
    assert "<b> 30%" in text
    assert "Prediction set: red, blue." in text
    said["none_of_these"] = True
    page.set_input_files("#files", [file_of("b.png", png("red"))])
    answered(page, 2)
    none = page.locator(".card").first
    assert none.locator("h3").inner_text() == "None of these"
    assert "out of distribution" in none.inner_text()
    assert "None of these" not in page.locator(".card").nth(1).inner_text()


def test_everything_works_with_the_keyboard(open_page: Opener) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.locator("#choose").evaluate("each => each === document.activeElement")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([file_of("a.png", png("red", side=64))])
    answered(page, 1)
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        element = "document.activeElement"
        kind = page.evaluate(f"() => {element} === document.body ? 'end' : {element}.type || {element}.textContent")
        if kind == "end":
            break
        reached.add(kind)
        outline = page.evaluate(f"() => getComputedStyle({element}.closest('label') ?? {element}).outlineStyle")
        assert outline != "none", kind
        if kind == "range":
            page.keyboard.press("ArrowRight")
            assert page.locator(".slider input").input_value() == "5"
        if kind == "radio":
            page.keyboard.press("ArrowDown")
            assert page.locator("input[type=radio]:checked").get_attribute("value") != "red"
    assert {"range", "radio", "Response as JSON", "button"} <= reached
    assert page.locator("#status").inner_text().startswith("a.png: red")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_cut_off_and_everything_can_be_read(open_page: Opener, scheme: str, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_input_files("#files", [file_of(f"{'long-name-' * 12}.png", png("red", side=64)), file_of("b", b"broken")])
    answered(page, 2)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    for selector in (".verdict", ".quiet", ".row .value", "#about", "button.main", "a", "figcaption"):
        assert contrast_of(page, selector) >= 4.5, selector
    page.goto(page.url + "docs")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert contrast_of(page, ".lead") >= 4.5


def test_a_phone_offers_its_camera(open_page: Opener) -> None:
    page = open_page(**PHONE)
    camera = page.locator("#camera")
    assert camera.is_visible()
    with page.expect_file_chooser() as chooser:
        camera.tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(file_of("shot.png", png("green", side=64)))
    answered(page, 1)
    assert "green" in page.locator(".verdict").inner_text()
    height = page.locator("#choose").bounding_box()
    assert height is not None
    assert height["height"] >= 44
    assert not open_page().locator("#camera").is_visible()


def test_a_token_is_asked_for_and_remembered(open_page: Opener, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    with serve(tmp_path, environment={"BELVEDERE_TOKEN": "open-sesame"}) as guarded:
        page = open_page(guarded.address)
        page.locator("#token").wait_for()
        page.set_input_files("#files", [file_of("a.png", png("red"))])
        answered(page, 1)
        assert "needs a token" in page.locator(".card").inner_text()
        page.fill("#secret", "wrong-token")
        page.keyboard.press("Enter")
        page.get_by_text("The token is wrong.", exact=True).wait_for()
        page.fill("#secret", "open-sesame")
        page.keyboard.press("Enter")
        page.locator(".row").first.wait_for()
        assert page.locator("#token").is_hidden()
        assert "blue, green and red" in page.locator("#about").inner_text()


def contrast_of(page: "Page", selector: str) -> float:
    """Of a text and what is behind it, as WCAG 2.2 has it."""
    colors = page.locator(f"{selector} >> visible=true").first.evaluate(
        """each => {
            let behind = each;
            while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
                behind = behind.parentElement;
            }
            return [getComputedStyle(each).color, getComputedStyle(behind).backgroundColor];
        }"""
    )
    first, second = (luminance(color) for color in colors)
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def luminance(color: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
