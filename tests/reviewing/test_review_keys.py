"""The keys of a review on keyboards of other languages, the key that accepts, classes that are added, what is gone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belvedere.data.corrections.corrections_file import active_decisions
from belvedere.types.data import Decision
from conftest import CLASS_NAMES, write_picture
from review_server import (
    Server,
    left,
    open_browser,
    open_page,
    open_review,
    press,
    settle,
    shown,
    write_copies,
    write_run,
)

SEND = """([key, code, more]) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, code, bubbles: true, cancelable: true, ...more }))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with open_review(write_run(tmp_path, 9)) as started:
        yield started


def send(page: Any, key: str, code: str, **more: bool) -> None:
    page.evaluate(SEND, [key, code, more])
    page.wait_for_timeout(50)
    settle(page)


def living(server: Server) -> list[Decision]:
    return active_decisions(server.decisions())


@pytest.mark.parametrize(
    ("key", "code", "expected"),
    [
        ("&", "Digit1", ("keep", ())),  # French: the first class is the label of the first photograph
        ("é", "Digit2", ("relabel", ("green",))),
        ("3", "Numpad3", ("relabel", ("red",))),
        ("٢", "Digit2", ("relabel", ("green",))),  # Arabic
        ("л", "KeyK", ("keep", ())),  # Russian
        ("Л", "KeyK", ("keep", ())),  # with caps lock
        ("κ", "KeyK", ("keep", ())),  # Greek
        ("Process", "KeyX", ("exclude", ())),  # where Japanese is put together
        ("k", "KeyV", ("keep", ())),  # Dvorak: the letter counts, not where it is
        ("x", "KeyB", ("exclude", ())),
        ("K", "KeyK", ("keep", ())),
        ("Enter", "Enter", ("relabel", ("green",))),
        ("Enter", "NumpadEnter", ("relabel", ("green",))),
    ],
)
def test_keys_of_other_keyboards(
    browser: Any, server: Server, key: str, code: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    page = open_page(browser.new_context(), server)
    send(page, key, code)
    [decision] = living(server)
    assert (decision.action, decision.to) == expected


def test_what_is_no_shortcut_does_nothing(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    for key, code in [("q", "KeyK"), ("End", "Numpad1"), ("F2", "F2"), ("ö", "Semicolon"), ("-", "Digit6")]:
        send(page, key, code)
    for more in ({"shiftKey": True}, {"ctrlKey": True}, {"repeat": True}, {"modifierAltGraph": True}):
        send(page, "/", "Digit3", **more)
    page.locator("#comment").focus()
    send(page, "л", "KeyK")
    page.uncheck("#shortcuts")
    page.locator("#question").focus()
    send(page, "&", "Digit1")
    send(page, "Enter", "Enter")
    assert server.decisions() == ()


def test_enter_accepts_what_the_model_says(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    suggested = page.locator(".suggested .class")
    assert suggested.locator("kbd").all_inner_texts() == ["2", "Enter"]
    assert suggested.get_attribute("aria-keyshortcuts") == "2 Enter"
    press(page, "Enter", "Enter")
    assert [each.to for each in living(server)] == [("green",), ("red",)]
    press(page, "t")  # while tagging, Enter records the tags
    assert suggested.locator("kbd:visible").all_inner_texts() == ["1"]
    assert suggested.get_attribute("aria-keyshortcuts") == "1"
    press(page, "2", "Enter")
    assert (living(server)[-1].action, living(server)[-1].to) == ("tag", ("green",))
    page.locator('[data-action="exclude"]').focus()  # and of a button that has the focus, it is the button's
    press(page, "Enter")
    assert [each.action for each in living(server)] == ["relabel", "relabel", "tag", "exclude"]


def test_a_new_class(browser: Any, server: Server) -> None:
    """It is there with a key, for every page and after a restart, until the decision that made it is undone."""
    page = open_page(browser.new_context(), server)
    press(page, "n")
    page.keyboard.type(" deep  Fjord ")
    press(page, "Enter")
    page.wait_for_function("document.querySelectorAll('.class').length == 4")
    assert living(server)[0].to == ("deep Fjord",)
    server.kill()
    server.start()
    page = open_page(browser.new_context(), server)
    added = page.locator('[data-class="deep Fjord"]')
    assert added.get_attribute("aria-keyshortcuts") == "4"
    press(page, "4")
    assert living(server)[1].to == ("deep Fjord",)
    for name, words in (("DEEP fjord", "already"), ("a|b", "separates"), ("", "empty")):
        press(page, "n")
        page.fill("#new-name", name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f'#status.error:has-text("{words}")')
        page.keyboard.press("Escape")
    press(page, "t", "n")
    page.keyboard.type("fog")
    page.keyboard.press("Enter")
    page.wait_for_selector('#status:has-text("Also: fog")')
    page.keyboard.press("Enter")
    page.wait_for_selector('[data-class="fog"][aria-pressed="true"]')
    assert living(server)[2].to == ("fog",)
    for _ in range(3):
        page.locator("[data-undo]").first.click()
        page.wait_for_timeout(50)
        settle(page)
    assert page.locator(".class").count() == len(CLASS_NAMES)


def test_on_a_photograph_that_is_gone_nothing_is_decided(browser: Any, server: Server, tmp_path: Path) -> None:
    page = open_page(browser.new_context(), server)
    image = shown(page)
    photographs = tmp_path / "photographs"
    photographs.rename(tmp_path / "away")
    press(page, "k")  # before the page knows
    page.wait_for_selector("#status.error")
    assert shown(page) == image
    assert page.locator(".missing").is_visible()
    for key in ("k", "x", "t", "n", "1", "Enter"):
        press(page, key)
        assert page.locator("#status.error").inner_text()
    disabled = page.locator("button:disabled").evaluate_all("all => all.map(each => each.dataset.action || 'class')")
    assert disabled == ["keep", "exclude", "tag", *["class"] * 3, "name"]
    press(page, "s")
    assert server.decisions() == ()
    assert shown(page) != image
    (tmp_path / "away").rename(photographs)
    page.reload()
    settle(page)
    write_picture(next(photographs.rglob(f"{shown(page)}.png")), "red", 999)  # another picture in its place
    press(page, "x")
    page.wait_for_selector("#status.error")
    assert server.decisions() == ()
    press(page, "s", "k")
    assert len(server.decisions()) == 1


@pytest.mark.parametrize(("width", "others"), [(1280, 1), (1280, 3), (390, 1), (390, 3)])
def test_copies_stand_side_by_side(browser: Any, tmp_path: Path, width: int, others: int) -> None:
    with open_review(write_copies(tmp_path, 1 + others)) as server:
        page = open_page(browser.new_context(viewport={"width": width, "height": 844}), server)
        page.wait_for_load_state("networkidle")
        boxes = [each.bounding_box() for each in page.locator("figure img").all()]
        assert len(boxes) == 1 + others
        assert boxes[0]["y"] == boxes[1]["y"]  # the one under review, and the first of the others
        assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"]
        least = 0.38 * width if others == 1 else 0.2 * width
        assert all(box["width"] >= least for box in boxes)
        assert all(box["y"] + box["height"] <= 844 for box in boxes[:2])  # seen without scrolling
        captions = page.locator("figcaption").all_inner_texts()
        assert ["under review" in each for each in captions] == [True, *[False] * others]
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0


def test_a_copy_that_is_gone_is_told_of(browser: Any, tmp_path: Path) -> None:
    with open_review(write_copies(tmp_path, 2)) as server:
        page = open_page(browser.new_context(), server)
        assert left(page) == 2
        other = page.locator("figcaption .path").nth(1).inner_text()
        Path(other).unlink()
        page.reload()
        settle(page)
        assert page.locator(".missing").count() == 1
        assert "only one left" in page.locator(".caution:visible").inner_text()
        press(page, "k")  # the one under review is there
        assert len(server.decisions()) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_accessibility_fault(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    """With copies side by side, with the name of a class asked for, and with one that is gone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    with open_review(write_copies(tmp_path, 3)) as server:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        page = open_page(context, server)
        press(page, "n")
        assert find_faults(axe, page) == []
        page.keyboard.press("Escape")
        audit = json.loads((tmp_path / "audit" / "audit.json").read_text())
        for image in audit["groups"][0]["images"][:2]:
            Path(image).unlink()
        page.reload()
        settle(page)
        assert page.locator("button:disabled").count() > 0
        assert find_faults(axe, page) == []


def find_faults(axe: Any, page: Any) -> list[tuple[str, str]]:
    return [(each["id"], each["impact"]) for each in axe.Axe().run(page).response["violations"]]
