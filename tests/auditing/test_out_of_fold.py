"""Out-of-fold predictions: the labels that the second round does not train on."""

import numpy as np
import pytest

from belvedere.auditing import out_of_fold
from belvedere.auditing.label_issues import LabelIssues


@pytest.mark.parametrize(
    ("flagged", "kept"),
    [  # of two classes with four and three labels
        ([0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]),
        ([1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1]),
        ([1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]),  # half of a class: all of it stays
        ([1, 1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 0, 1, 1]),
        ([0, 0, 1, 0, 1, 1, 0], [1, 1, 0, 1, 1, 1, 1]),
        ([1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_class_that_would_lose_half_of_its_labels_keeps_all(
    flagged: list[int], kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    flags, zeros = np.array(flagged, bool), np.zeros(7)
    monkeypatch.setattr(
        out_of_fold, "find_label_issues", lambda *_: LabelIssues(zeros, flags, labels, zeros, np.ones((2, 2)))
    )
    assert out_of_fold._trusted_labels(np.zeros((7, 2), np.float32), labels).tolist() == [bool(each) for each in kept]
