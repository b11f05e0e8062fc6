"""The corrections file: nothing recorded is lost, nothing is invented, whatever becomes of the file."""

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.data.corrections.corrections_file import (
    ACTIONS,
    ISSUE_TYPES,
    CorrectionsFile,
    active_decisions,
    find_copy,
    parse_corrections,
    parse_line,
    read_corrections,
    resolve,
    to_line,
    utc_now,
)
from belvedere.errors import UsageError
from belvedere.types.data import CopyResolution, Decision, Resolution
from conftest import new_id
from decisions import HASH, make_decision

texts = st.text(st.characters(), max_size=20)  # any code point, lone surrogates too
names = st.text(min_size=1, max_size=8)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    action = draw(st.sampled_from(ACTIONS))
    counts = {"tag": (0, 3), "relabel": (1, 1), "undo": (1, 1)}.get(action, (0, 0))
    return Decision(
        id=new_id(),
        timestamp=utc_now(),
        annotator=draw(texts),
        sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        image=draw(texts),
        action=action,
        old_label=draw(st.none() | texts),
        to=tuple(draw(st.lists(names, min_size=counts[0], max_size=counts[1]))),
        comment=draw(texts),
        issue_type=draw(st.sampled_from(ISSUE_TYPES)),
        size_bytes=draw(st.none() | st.integers(0, 2**40)),
        split=draw(texts),
    )


@given(decisions())
def test_a_line_is_read_back(decision: Decision) -> None:
    line = to_line(decision)
    assert b"\n" not in line
    assert line.isascii()
    assert parse_line(line) == decision
    assert parse_line(line + b"\r") == decision  # an editor's line end


@given(st.lists(decisions(), min_size=1, max_size=6), st.data())
def test_a_torn_file_loses_only_what_is_torn(made: list[Decision], data: st.DataObject) -> None:
    content = b"".join(to_line(decision) + b"\n" for decision in made)
    cut = data.draw(st.integers(0, len(content)))
    whole = content[:cut].count(b"\n")
    text = parse_corrections(content[:cut])
    complete = content[cut - 1 : cut + 1] == b"}\n"  # only the line end is missing
    assert text.decisions == tuple(made[: whole + complete])
    torn = cut > 0 and content[cut - 1 : cut] != b"\n" and not complete
    assert text.damaged == ((whole + 1,) if torn else ())


@given(st.lists(decisions() | st.binary(max_size=30), max_size=6))
def test_garbage_between_lines_is_left_out_and_named(items: list[Decision | bytes]) -> None:
    lines = [to_line(each) if isinstance(each, Decision) else each.replace(b"\n", b"") for each in items]
    text = parse_corrections(b"\n".join(lines))
    assert text.decisions == tuple(each for each in items if isinstance(each, Decision))
    garbage = [n for n, each in enumerate(lines, 1) if isinstance(items[n - 1], bytes) and each.strip()]
    assert text.damaged == tuple(garbage)


@given(st.recursive(st.none() | st.booleans() | st.floats() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)))
def test_any_json_is_a_decision_or_none(value: object) -> None:
    assert parse_line(json.dumps(value).encode()) is None


@pytest.mark.parametrize("key", ["id", "timestamp", "annotator", "sha256", "image", "action"])
@pytest.mark.parametrize("value", [None, 3, "", ["a"], {"a": 1}])
def test_a_wrong_value_makes_no_decision(key: str, value: object) -> None:
    line = json.loads(to_line(make_decision()))
    broken = json.dumps(line | {key: value}).encode()
    if value == "" and key in ("timestamp", "annotator", "image"):
        assert parse_line(broken) is not None
    else:
        assert parse_line(broken) is None
    del line[key]
    assert parse_line(json.dumps(line).encode()) is None


def test_deep_nesting_is_a_damaged_line() -> None:
    assert parse_line(b"[" * 100_000) is None


def test_what_is_appended_is_there(tmp_path: Path) -> None:
    corrections = CorrectionsFile(tmp_path / "j.jsonl")
    made = [
        make_decision(),
        make_decision("relabel", "glacier"),
        make_decision("tag", "sea", "forest"),
        make_decision("exclude"),
    ]
    assert all(corrections.append(decision) for decision in made)
    assert not corrections.append(made[1])  # sent twice
    assert list(corrections.decisions) == made
    assert read_corrections(tmp_path / "j.jsonl").decisions == tuple(made)


def test_a_torn_last_line_is_ended_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    first, second, third = make_decision(), make_decision(), make_decision("exclude")
    file.write_bytes(to_line(first) + b"\n" + to_line(second)[:-9])
    corrections = CorrectionsFile(file)
    assert corrections.damaged == [2]
    corrections.append(third)
    assert read_corrections(file).decisions == (first, third)
    assert read_corrections(file).damaged == (2,)


def test_others_lines_are_seen(tmp_path: Path) -> None:
    one, other = CorrectionsFile(tmp_path / "j.jsonl"), CorrectionsFile(tmp_path / "j.jsonl")
    first, second = make_decision(), make_decision("exclude")
    one.append(first)
    other.append(second)
    assert other.decisions == (first, second)
    assert one.read_new()
    assert one.decisions == (first, second)
    assert not one.read_new()


def _append_many(path: Path, who: int, count: int) -> None:
    corrections = CorrectionsFile(path)
    for number in range(count):
        corrections.append(replace(make_decision(), id=f"writer{who}-{number:04}", comment="x" * 300))


def test_several_processes_append_at_once(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(file, who, 40)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    text = read_corrections(file)
    assert text.damaged == ()
    assert {each.id for each in text.decisions} == {f"writer{who}-{n:04}" for who in range(4) for n in range(40)}
    for who in range(4):  # each in its own order
        mine = [each.id for each in text.decisions if each.id.startswith(f"writer{who}")]
        assert mine == sorted(mine)


def test_a_killed_writer_loses_nothing_it_has_acknowledged(tmp_path: Path) -> None:
    code = (
        "import sys, itertools; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom dataclasses import replace\nfrom decisions import make_decision\n"
        "from belvedere.data.corrections.corrections_file import CorrectionsFile\n"
        "corrections = CorrectionsFile(Path(sys.argv[1]))\n"
        "for n in itertools.count():\n"
        "    corrections.append(replace(make_decision(), id=f'number-{n:08}'))\n"
        "    print(n, flush=True)\n"
    )
    file, here = tmp_path / "j.jsonl", str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", code, file, here], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    found = [decision.id for decision in CorrectionsFile(file).decisions]
    assert found[: len(acknowledged)] == [f"number-{n:08}" for n in acknowledged]
    assert len(found) <= len(acknowledged) + 1  # the last may be written and not said


@pytest.mark.skipif(not Path("/dev/full").exists() or os.name != "posix", reason="needs a full device")
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=os.strerror(errno.ENOSPC)):
        CorrectionsFile(tmp_path / "j.jsonl").append(make_decision())


@pytest.mark.parametrize("content", [b"image,label\n1.jpg,sea", b'{"mine": 1}\n', b"\xff\xd8\xff\xe0"])
def test_nothing_is_added_to_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(str(file))):
        CorrectionsFile(file)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_whose_only_line_is_torn_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    for whole in (b"", to_line(make_decision("keep"))[:40]):
        file.write_bytes(whole)
        assert CorrectionsFile(file).append(make_decision("keep"))


def test_what_can_not_be_read_back_is_refused(tmp_path: Path) -> None:
    corrections = CorrectionsFile(tmp_path / "j.jsonl")
    for wrong in (
        make_decision("relabel"),
        make_decision("delete"),
        replace(make_decision(), sha256="x"),
        make_decision(about="color"),
    ):
        with pytest.raises(UsageError, match=wrong.id):
            corrections.append(wrong)
    assert not (tmp_path / "j.jsonl").exists()


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jsonl"):
        read_corrections("nowhere.jsonl")


def test_undo_and_undoing_the_undo() -> None:
    first, second = make_decision("relabel", "glacier"), make_decision("relabel", "forest")
    undo = make_decision("undo", second.id)
    redo = make_decision("undo", undo.id)
    assert resolve([first, second])[HASH].label == "forest"
    assert resolve([first, second, undo])[HASH].label == "glacier"
    assert resolve([first, second, undo, redo])[HASH].label == "forest"
    assert active_decisions([first, second, undo]) == [first]
    assert resolve([first, make_decision("undo", first.id)]) == {}


def test_rulings() -> None:
    assert resolve([make_decision("keep")])[HASH] == Resolution("sea")
    assert resolve([make_decision("keep", about="duplicate")])[HASH] == Resolution(None)
    assert resolve([make_decision("relabel", "glacier"), make_decision("tag", "sea")])[HASH] == Resolution(
        "glacier", ("sea",)
    )
    assert resolve([make_decision("tag", "sea"), make_decision("tag")])[HASH] == Resolution(None, ())
    two = [make_decision("exclude", image="a/1.jpg"), make_decision("exclude", image="b/1.jpg")]
    assert resolve(two)[HASH].copies == (CopyResolution("a/1.jpg", None, True), CopyResolution("b/1.jpg", None, True))
    kept = resolve([*two, make_decision("keep", image="a/1.jpg", about="split_leak")])[HASH].copies
    assert kept == (CopyResolution("b/1.jpg", None, True), CopyResolution("a/1.jpg", None, False))


def test_a_line_without_a_split_is_read() -> None:
    line = json.loads(to_line(replace(make_decision("exclude"), split="train")))
    assert line.pop("split") == "train"
    old = parse_line(json.dumps(line).encode())
    assert old is not None
    assert (old.action, old.split) == ("exclude", None)


def test_the_copy_that_a_path_means() -> None:
    copies = ["new/train/sea/1.jpg", "new/test/sea/1.jpg"]
    assert find_copy("old/photos/test/sea/1.jpg", copies) == 1
    assert find_copy("train/sea/1.jpg", copies) == 0
    assert find_copy("renamed.jpg", copies) == 0
    assert find_copy("x.jpg", []) is None
