"""Stays in intensive care become series without their outcomes."""

import numpy as np
import pytest

from nacs.data import load
from nacs.data.npz import read_npz
from nacs.errors import UserError


def stays(path, **changes):
    arrays = {
        "minute": np.array([0, 0, 30, 0, 90, 90]),
        "param": np.array([0, 1, 1, 1, 0, 2]),
        "params": np.array(["Height", "HR", "RecordID"]),
        "value": np.array([-1, 80.0, 90, 70, 160, 12]),
        "offsets": np.array([0, 3, 6]),
        "outcomes": np.array([[0, 12], [1, 7]]),
        "outcome_cols": np.array(["in_hospital_death", "Length_of_stay"]),
        "record_id": np.array([11, 12]),
    }
    np.savez(path, **(arrays | changes))
    return path


def test_a_stay_is_a_series(tmp_path):
    samples = read_npz(stays(tmp_path / "x.npz"))
    first, second = samples.inputs
    np.testing.assert_array_equal(first, [[0, np.nan, 80], [0.5, np.nan, 90]])
    np.testing.assert_array_equal(second, [[0, np.nan, 70], [1.5, 160, np.nan]])
    assert samples.targets.tolist() == [0, 1]
    assert samples.classes == ("survived", "died")
    assert samples.columns == ("Height", "HR")
    assert samples.ids.tolist() == ["11", "12"]


def test_contradictions_are_named(tmp_path):
    with pytest.raises(UserError, match="of 6 rows, got 4, 6 and 6"):
        read_npz(stays(tmp_path / "x.npz", minute=np.arange(4)))
    with pytest.raises(UserError, match="expected an outcome in_hospital_death, got a"):
        read_npz(stays(tmp_path / "x.npz", outcome_cols=np.array(["a", "b"])))


def test_the_real_file(shared):
    dataset = load(shared / "data" / "physionet2012_set_a.npz")
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 4000
    died = sum(s.targets.sum() for s in (dataset.train, dataset.val, dataset.test))
    assert died == 554
    assert dataset.shape[1] == 42
    assert max(series[-1, 0] for series in dataset.train.inputs) <= 48
