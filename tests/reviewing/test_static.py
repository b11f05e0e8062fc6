"""The review page in a browser, with a real server: keys, kills, reloads, copies and missing images."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belvedere.data.corrections.corrections_file import active_decisions, read_corrections
from belvedere.types.data import Decision
from conftest import CLASS_NAMES, write_image
from review_server import (
    NUM_ITEMS,
    Server,
    ThreadServer,
    left,
    open_browser,
    open_page,
    open_review,
    press,
    settle,
    shown,
    write_duplicates,
    write_run,
)

SEND = """([key, code, more]) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, code, bubbles: true, cancelable: true, ...more }))"""
KEYS = {"blue": "1", "green": "2", "red": "3"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with open_review(write_run(tmp_path), ThreadServer) as started:
        yield started


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Server]:
    """The server as a command, which a test may kill."""
    with open_review(write_run(tmp_path)) as started:
        yield started


def test_eighty_decisions_a_kill_and_a_restart(browser: Any, process: Server) -> None:
    page = open_page(browser.new_context(), process)
    said: list[tuple[str, str]] = []  # what the page acknowledged: the image and its new label
    for turn in range(80):
        if turn == 50:
            process.kill()
            process.start()
        if turn == 25:
            page.reload()
            settle(page)
        image, given = shown(page), page.locator("article").get_attribute("data-label")
        assert left(page) == NUM_ITEMS - turn
        label = given if turn % 3 == 0 else CLASS_NAMES[turn % 3]
        press(page, KEYS[label])
        assert page.locator("#status").inner_text().startswith(f"{image}.png: ")
        said.append((image, label))
    found = [(Path(each.image).stem, each.to[0] if each.to else str(each.old_label)) for each in process.decisions()]
    assert found == said
    assert [int(image) for image, _ in said] == list(range(80))  # the surest first, each once
    ending = process.end()
    assert "80 decisions" in ending
    assert "140 items left" in ending
    assert "Traceback" not in ending


def test_a_kill_between_the_disk_and_the_page(browser: Any, process: Server) -> None:
    """The process dies while a decision is under way: it is sent again until the page can say that it counts, once."""
    page = open_page(browser.new_context(), process)
    press(page, "1")
    process.kill()
    page.keyboard.press("2")
    page.wait_for_selector("#status.error")
    assert "Not recorded yet" in page.locator("#status").inner_text()
    page.keyboard.press("3")  # not taken: the first one is not through
    process.start()
    page.wait_for_selector("#status:not(.error)", timeout=60_000)
    settle(page)
    assert [Path(each.image).stem for each in process.decisions()] == ["000", "001"]
    assert shown(page) == "002"


def test_killed_again_and_again_nothing_is_lost_or_invented(browser: Any, process: Server) -> None:
    """Killed at any moment, with a torn line left behind."""
    page = open_page(browser.new_context(), process)
    for turn in range(6):
        image = shown(page)
        page.keyboard.press("k")
        time.sleep(0.008 * turn)  # somewhere on the way
        process.kill()
        if turn % 2:
            with process.corrections.open("ab") as file:
                file.write(b'{"id": "torn')
        process.start()
        settle(page)
        page.wait_for_selector("#status:not(.error)", state="attached", timeout=60_000)  # it may be empty
        page.wait_for_selector(f'#left:has-text("{NUM_ITEMS - turn - 1} left")', timeout=60_000)
        assert image == f"{turn:03}"
    text = read_corrections(process.corrections)
    assert [Path(each.image).stem for each in text.decisions] == [f"{turn:03}" for turn in range(6)]
    assert len(text.damaged) == 3


def test_an_image_that_a_stopped_server_left_half_way_is_loaded_again(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    page.route("**/images/*/large", lambda route: route.abort("connectionreset"), times=1)
    press(page, "k")
    page.wait_for_function("() => document.getElementById('image').naturalWidth > 0")
    assert page.locator("#status.error").count() == 0


def test_what_is_typed_while_an_image_does_not_load_stays(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    held: list[Any] = []
    page.route("**/images/*/large", lambda route: held.append(route), times=1)
    press(page, "k")
    press(page, "w")
    page.keyboard.type("it looks li")
    held[0].abort("connectionreset")
    page.wait_for_function("() => document.getElementById('image').naturalWidth > 0")
    page.keyboard.type("ke a keel")
    assert page.locator("#comment").input_value() == "it looks like a keel"
    assert len(server.decisions()) == 1


def test_an_image_is_loaded_again_after_each_restart(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    for _ in range(2):
        page.route("**/images/*/large", lambda route: route.abort("connectionreset"), times=1)
        page.evaluate("() => { document.getElementById('image').src += '?' }")
        page.wait_for_function("() => document.getElementById('image').naturalWidth > 0")
    assert page.locator("#status.error").count() == 0


def test_an_image_that_cannot_be_read_is_reported(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    page.route("**/images/*/large", lambda route: route.fulfill(status=200, body="no image"))
    press(page, "k")
    page.wait_for_selector('#status.error:has-text("failed to load")')


def test_what_was_refused_is_over_with_the_next_answer(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    page.route("**/decisions", lambda route: route.fulfill(status=500, body="no"))
    press(page, "k")
    assert page.locator("#status.error").inner_text() == "Server error 500."
    page.unroute("**/decisions")
    page.select_option("#filter", index=1)
    page.wait_for_selector("#status:not(.error)", state="attached")
    settle(page)
    assert page.locator("#status").inner_text() == ""


def test_undo_tag_exclude_skip_and_filter(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    press(page, "3", "x", "s")
    assert shown(page) == "003"
    assert left(page) == NUM_ITEMS - 2
    press(page, "u")  # the exclusion
    assert shown(page) == "001"
    press(page, "u")  # and the label
    assert shown(page) == "000"
    assert active_decisions(server.decisions()) == []
    press(page, "t")
    press(page, "3", "Enter")
    assert shown(page) == "000"  # still to decide
    assert page.locator(".tagged:visible").count() == 1
    press(page, "w")
    page.keyboard.type("both are in it")
    press(page, "Enter", "k")
    tagged, kept = active_decisions(server.decisions())
    assert (tagged.action, tagged.to, kept.action, kept.comment) == ("tag", ("red",), "keep", "both are in it")
    press(page, "u", "u")
    assert active_decisions(server.decisions()) == []
    page.select_option(
        "#filter", label=page.locator("#filter option", has_text="labeled green, suggested red").inner_text()
    )
    settle(page)
    page.locator("#question").focus()
    press(page, "k", "k")
    assert {each.old_label for each in active_decisions(server.decisions())} == {"green"}
    assert [Path(each.image).stem for each in active_decisions(server.decisions())] == ["001", "004"]


def test_undo_after_a_restart(browser: Any, process: Server) -> None:
    """What another page, or an earlier process, recorded can be undone by its button."""
    press(open_page(browser.new_context(), process), "2", "3")
    process.kill()
    process.start()
    page = open_page(browser.new_context(), process)
    assert shown(page) == "002"
    press(page, "u")  # of this page there is nothing yet: nobody else's is taken back
    assert page.locator("#status").inner_text() == "This page has nothing to undo. Use the undo buttons."
    assert len(process.decisions()) == 2
    page.locator("[data-undo]").nth(1).click()
    settle(page)
    assert shown(page) == "000"
    [kept] = active_decisions(process.decisions())
    assert Path(kept.image).stem == "001"


def test_undo_after_a_restart_with_other_corrections(browser: Any, process: Server) -> None:
    """In the same tab: earlier decisions, of the other file, are not asked for, or once at most if it is gone."""
    page = open_page(browser.new_context(), process)
    press(page, "k")
    process.kill()
    process.options = ("--corrections", str(process.corrections.with_name("other.jsonl")))
    process.start()
    page.reload()
    settle(page)
    press(page, "u")
    assert page.locator("#status").inner_text() == "This page has nothing to undo. Use the undo buttons."
    process.kill()
    process.corrections.unlink()
    process.options = ()
    process.start()
    page.reload()
    settle(page)
    press(page, "u")
    assert page.locator("#status").inner_text() == "There is no such decision to undo. Reload the page."
    press(page, "u")
    assert page.locator("#status").inner_text() == "This page has nothing to undo. Use the undo buttons."


def test_two_tabs_and_two_people(browser: Any, server: Server) -> None:
    ana, ben = browser.new_context(), browser.new_context()
    pages = [open_page(ana, server), open_page(ana, server), open_page(ben, server)]
    assert [shown(page) for page in pages] == ["000", "001", "002"]
    pages[2].fill("#annotator", "Ben")
    pages[2].locator("#question").focus()
    for _ in range(10):
        for page in pages:
            press(page, "k")
    decided = server.decisions()
    assert sorted(Path(each.image).stem for each in decided) == [f"{n:03}" for n in range(30)]
    assert [each.annotator for each in decided].count("Ben") == 10

    # The last of three to see the same image: recorded, with the earlier decision in the response.
    late = shown(pages[0])
    other = open_page(browser.new_context(), server)
    identity = pages[0].locator("article").get_attribute("data-item")
    body = {"id": "ab" * 12, "tab": "cd" * 8, "annotator": "Cid", "item": identity, "action": "exclude"}
    origin = server.address.rstrip("/")
    sent = other.request.post(f"{origin}/decisions", data=body, headers={"Origin": origin})
    assert sent.json()["previous"] is None
    press(pages[0], "1")
    assert "replaces a decision of Cid: excluded" in pages[0].locator("#status").inner_text()
    both = [each for each in server.decisions() if Path(each.image).stem == late]
    assert [each.annotator for each in both] == ["Cid", "Ana"]


def test_keyboard_alone_and_focus(browser: Any, server: Server) -> None:
    page = open_page(browser.new_context(), server)
    press(page, "k")
    assert page.evaluate("document.activeElement.id") == "question"  # a screen reader reads what comes next
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset.action || document.activeElement.dataset.class || ''"))
    assert {"keep", "exclude", "tag", "skip", "undo", *CLASS_NAMES} <= seen
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.locator('[data-class="red"]').focus()
    press(page, "Enter")
    assert server.decisions()[-1].image.endswith("001.png")
    page.uncheck("#shortcuts")
    page.locator("#question").focus()
    press(page, "k")
    assert len(server.decisions()) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_accessibility_fault(browser: Any, server: Server, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = open_page(context, server)
    press(page, "1", "x", "t", "3")
    results = axe.Axe().run(page)
    faults = [(each["id"], each["impact"]) for each in results.response["violations"]]
    assert faults == []
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0


def test_nothing_is_asked_of_another_machine(browser: Any, server: Server) -> None:
    context = browser.new_context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = open_page(context, server)
    page.wait_for_load_state("networkidle")
    assert asked
    assert all(url.startswith(server.address) for url in asked)
    policy = page.request.get(server.address).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[Server]:
    with open_review(write_run(tmp_path, 9), ThreadServer) as started:
        yield started


def send(page: Any, key: str, code: str, **more: bool) -> None:
    page.evaluate(SEND, [key, code, more])
    page.wait_for_timeout(50)
    settle(page)


def active(server: Server) -> list[Decision]:
    return active_decisions(server.decisions())


@pytest.mark.parametrize(
    ("key", "code", "expected"),
    [
        ("&", "Digit1", ("keep", ())),  # French: the first class is the label of the first image
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
    browser: Any, small_server: Server, key: str, code: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    page = open_page(browser.new_context(), small_server)
    send(page, key, code)
    [decision] = active(small_server)
    assert (decision.action, decision.to) == expected


def test_what_is_no_shortcut_does_nothing(browser: Any, small_server: Server) -> None:
    page = open_page(browser.new_context(), small_server)
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
    assert small_server.decisions() == ()


def test_enter_accepts_what_the_model_says(browser: Any, small_server: Server) -> None:
    page = open_page(browser.new_context(), small_server)
    suggested = page.locator(".suggested .class")
    assert suggested.locator("kbd").all_inner_texts() == ["2", "Enter"]
    assert suggested.get_attribute("aria-keyshortcuts") == "2 Enter"
    press(page, "Enter", "Enter")
    assert [each.to for each in active(small_server)] == [("green",), ("red",)]
    press(page, "t")  # while tagging, Enter records the tags
    assert suggested.locator("kbd:visible").all_inner_texts() == ["1"]
    assert suggested.get_attribute("aria-keyshortcuts") == "1"
    press(page, "2", "Enter")
    assert (active(small_server)[-1].action, active(small_server)[-1].to) == ("tag", ("green",))
    page.locator('[data-action="exclude"]').focus()  # and of a button that has the focus, it is the button's
    press(page, "Enter")
    assert [each.action for each in active(small_server)] == ["relabel", "relabel", "tag", "exclude"]


def test_tags_chosen_with_the_mouse_are_recorded_by_enter(browser: Any, small_server: Server) -> None:
    page = open_page(browser.new_context(), small_server)
    press(page, "t")
    page.locator('.class[data-class="green"]').last.click()
    press(page, "Enter")
    [decision] = active(small_server)
    assert (decision.action, decision.to) == ("tag", ("green",))


def test_a_new_class(browser: Any, small_server: Server) -> None:
    """It is there with a key, for every page and after a restart, until the decision that made it is undone."""
    page = open_page(browser.new_context(), small_server)
    press(page, "n")
    page.keyboard.type(" deep  Fjord ")
    press(page, "Enter")
    page.wait_for_function("document.querySelectorAll('.class').length == 4")
    assert active(small_server)[0].to == ("deep Fjord",)
    small_server.kill()
    small_server.start()
    page = open_page(browser.new_context(), small_server)
    added = page.locator('[data-class="deep Fjord"]')
    assert added.get_attribute("aria-keyshortcuts") == "4"
    press(page, "4")
    assert active(small_server)[1].to == ("deep Fjord",)
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
    assert active(small_server)[2].to == ("fog",)
    for _ in range(3):
        page.locator("[data-undo]").first.click()
        page.wait_for_timeout(50)
        settle(page)
    assert page.locator(".class").count() == len(CLASS_NAMES)


def test_on_an_image_that_is_gone_nothing_is_decided(browser: Any, small_server: Server, tmp_path: Path) -> None:
    page = open_page(browser.new_context(), small_server)
    image = shown(page)
    folder = tmp_path / "images"
    folder.rename(tmp_path / "away")
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
    assert small_server.decisions() == ()
    assert shown(page) != image
    (tmp_path / "away").rename(folder)
    page.reload()
    settle(page)
    write_image(next(folder.rglob(f"{shown(page)}.png")), "red", 999)  # another image in its place
    press(page, "x")
    page.wait_for_selector("#status.error")
    assert small_server.decisions() == ()
    press(page, "s", "k")
    assert len(small_server.decisions()) == 1


@pytest.mark.parametrize(("width", "others"), [(1280, 1), (1280, 3), (390, 1), (390, 3)])
def test_copies_stand_side_by_side(browser: Any, tmp_path: Path, width: int, others: int) -> None:
    with open_review(write_duplicates(tmp_path, 1 + others), ThreadServer) as server:
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


def test_a_copy_that_is_gone_is_reported(browser: Any, tmp_path: Path) -> None:
    with open_review(write_duplicates(tmp_path, 2), ThreadServer) as server:
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
def test_no_accessibility_fault_with_copies(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    """With copies side by side, with the name of a class asked for, and with one that is gone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    with open_review(write_duplicates(tmp_path, 3), ThreadServer) as server:
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
