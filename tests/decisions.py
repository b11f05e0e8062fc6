"""Decisions on labels, as `belvedere review` records them."""

import hashlib
from pathlib import Path

from belvedere.data.corrections.corrections_file import CorrectionsFile, utc_now
from belvedere.types.data import Decision
from conftest import new_id

HASH = "ab" * 32


def make_decision(action: str = "keep", *to: str, image: str = "sea/1.jpg", about: str = "label_issue") -> Decision:
    return Decision(new_id(), utc_now(), "Ana", HASH, image, action, "sea", to, issue_type=about)


def decide(
    corrections: Path,
    image: Path,
    action: str,
    *to: str,
    given: str = "",
    about: str = "label_issue",
    part: str | None = None,
) -> Decision:
    content = image.read_bytes()
    decision = Decision(
        *(
            new_id(),
            utc_now(),
            "Ana",
            hashlib.sha256(content).hexdigest(),
            str(image),
            action,
            given or image.parent.name,
        ),
        to=to,
        issue_type=about,
        size_bytes=len(content),
        split=part,
    )
    CorrectionsFile(corrections).append(decision)
    return decision
