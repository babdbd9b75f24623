"""Means over seeds, and paired differences with confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats

__all__ = ["compared", "percent", "points", "spread"]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds, and the values.

    Example:
        >>> spread([1.0, 3.0])["mean"]
        2.0
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    values = list(values)
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": values}


def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """How much larger ours are, seed by seed, with the 95 % interval of the mean.

    The interval is Student's, over seeds; it says nothing of other data sets.

    Example:
        >>> found = compared([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
        >>> found["mean"], found["low"], found["high"]
        (1.0, 1.0, 1.0)
    """
    off = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, count = statistics.fmean(off), len(off)
    if count < 2:
        return {"mean": mean, "low": -math.inf, "high": math.inf}
    error = statistics.stdev(off) / math.sqrt(count)
    half = float(stats.t.ppf(0.975, count - 1)) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}


def percent(found: dict[str, Any]) -> str:
    """A spread of shares, in per cent."""
    return f"{100 * found['mean']:.1f} ± {100 * found['deviation']:.1f}"


def points(found: dict[str, float]) -> str:
    """A difference of shares with its interval, in percentage points."""
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * found['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
