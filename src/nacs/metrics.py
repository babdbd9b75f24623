"""Scores beside loss, accuracy and root mean squared error.

References:
    Fawcett, An introduction to ROC analysis, 2006.
    Davis, Goadrich, The relationship between precision-recall and ROC curves, 2006.
    Saxena et al., Damage propagation modeling, PHM 2008 (the asymmetric score).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = ["SCORES", "asymmetric_score", "auprc", "auroc"]


def auroc(
    scores: Float[ndarray, " samples"], targets: Int[ndarray, " samples"]
) -> float:
    """Area under the ROC curve: how often a positive sample scores above a negative.

    Ties count half. NaN where a class is absent.

    Args:
        scores: Higher means rather class 1.
        targets: 0 or 1.
    """
    positive = int(targets.sum())
    negative = len(targets) - positive
    if not positive or not negative:
        return float("nan")
    from scipy.stats import rankdata  # here: it takes half of torch's time

    ranks = rankdata(scores)[targets == 1].sum() - positive * (positive + 1) / 2
    return float(ranks / (positive * negative))


def auprc(
    scores: Float[ndarray, " samples"], targets: Int[ndarray, " samples"]
) -> float:
    """Average precision: Σ precision · Δrecall over the distinct scores, from the top.

    The share of class 1 is what chance scores. NaN where class 1 is absent.

    Args:
        scores: Higher means rather class 1.
        targets: 0 or 1.
    """
    positive = int(targets.sum())
    if not positive:
        return float("nan")
    low = -np.asarray(scores, np.float64)
    order = np.argsort(low, kind="stable")
    falling = low[order]
    last = np.append(falling[1:] != falling[:-1], True)
    hits = np.cumsum(targets[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / positive)


def asymmetric_score(
    predicted: Float[ndarray, " samples"], targets: Float[ndarray, " samples"]
) -> float:
    """Σ exp(d/10) − 1 where too much life is promised, Σ exp(−d/13) − 1 where less.

    d = predicted − true remaining life, in cycles: to promise too much costs more.
    """
    off = np.asarray(predicted, np.float64) - targets
    return float(
        np.where(off < 0, np.exp(-off / 13), np.exp(off / 10)).sum() - off.size
    )


SCORES: dict[str, Callable[[ndarray, ndarray], float]] = {
    "asymmetric_score": asymmetric_score
}
"""What a data set may ask for beside the usual, from predictions and targets."""
