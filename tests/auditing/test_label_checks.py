from pathlib import Path

from belvedere.auditing.label_checks import assign_folds
from belvedere.data.hashing import HashedSamples
from belvedere.types.audit import DuplicateGroup
from belvedere.types.data import Sample


def test_images_of_a_group_share_a_fold() -> None:
    samples = tuple(
        Sample(Path("x"), str(row), "ab"[row % 2], None, group=f"{row // 4}" if row < 40 else None) for row in range(60)
    )
    contents = HashedSamples(samples, tuple(map(str, range(60))))
    copies = DuplicateGroup(1, "near_duplicate", ("39", "41"), ("b", "b"), (None, None), 0.9)
    found = assign_folds(contents, ("a", "b"), [copies], 0)
    fold_of = dict(zip((sample.name for sample in found.contents.samples), found.folds.tolist(), strict=True))
    assert all(len({fold_of[str(row)] for row in range(start, start + 4)}) == 1 for start in range(0, 40, 4))
    assert fold_of["36"] == fold_of["41"]  # by the group and a near duplicate
    assert len(set(fold_of.values())) == 5
