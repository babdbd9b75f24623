"""Areas under curves agree with scikit-learn, ties and all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from nacs.metrics import asymmetric_score, auprc, auroc


@given(seed=st.integers(0, 999), count=st.integers(4, 60), levels=st.integers(1, 50))
def test_areas_are_those_of_scikit_learn(seed, count, levels):
    random = np.random.default_rng(seed)
    scores = random.integers(levels, size=count).astype(float)
    targets = random.integers(2, size=count)
    targets[:2] = 0, 1
    assert auroc(scores, targets) == pytest.approx(roc_auc_score(targets, scores))
    assert auprc(scores, targets) == pytest.approx(
        average_precision_score(targets, scores)
    )


def test_an_absent_class_has_no_area():
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, int)))
    assert np.isnan(auprc(np.arange(3.0), np.zeros(3, int)))


def test_to_promise_too_much_costs_more():
    true = np.array([50.0, 50.0])
    assert asymmetric_score(true, true) == 0
    long = asymmetric_score(np.array([60.0, 50.0]), true)
    short = asymmetric_score(np.array([40.0, 50.0]), true)
    assert long == pytest.approx(np.e - 1)
    assert short == pytest.approx(np.exp(10 / 13) - 1)


def test_average_precision_does_not_depend_on_the_order_of_samples():
    """Where scores are equal, infinite ones too, and whatever type they are of."""
    tied = np.array([-np.inf, -np.inf, 1.0])
    for targets in ([1, 0, 1], [0, 1, 1]):
        assert auprc(tied, np.array(targets)) == pytest.approx(5 / 6)
    assert auprc(np.array([0, 200], np.uint8), np.array([0, 1])) == 1
