"""Scores of a classifier of two classes that a threshold does not decide.

References:
    Fawcett, An introduction to ROC analysis, 2006.
    Davis, Goadrich, The relationship between precision-recall and ROC curves, 2006.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

__all__ = ["auprc", "auroc"]


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
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(targets[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / positive)
