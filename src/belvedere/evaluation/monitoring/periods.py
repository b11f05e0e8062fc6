"""Served predictions over time: by hour, day or week."""

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.monitoring.result import Period
from belvedere.evaluation.monitoring.samples import Sampled

HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0
MONDAY = 4 * DAY  # 5 January 1970: weeks start on Mondays, UTC
MAX_HOURS, MAX_DAYS = 2 * DAY, 60 * DAY  # longer records are counted by day, and by week


def split_by_time(new: Sampled, accept_rate: float) -> tuple[Period, ...]:
    """Return the periods that have images, in order; none without times.

    Args:
        new: Records, in order of time.
        accept_rate: Score above which an image is "none of these".
    """
    if new.times is None:
        return ()
    span = new.times[-1] - new.times[0]
    length = HOUR if span <= MAX_HOURS else DAY if span <= MAX_DAYS else WEEK
    offset = MONDAY if length == WEEK else 0.0
    starts = np.floor((new.times - offset) / length) * length + offset
    return tuple(_period(new, starts == start, float(start), accept_rate) for start in np.unique(starts))


def _period(new: Sampled, is_in: NDArray[np.bool_], start: float, accept_rate: float) -> Period:
    number = int(is_in.sum())
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start)
    scores = new.none_of_these_score
    rate = None if scores is None else float((scores[is_in] > accept_rate).mean())
    return Period(time.isoformat(), number, float(new.confidence[is_in].mean()), rate)
