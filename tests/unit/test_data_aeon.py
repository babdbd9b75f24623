"""Sets inside aeon's wheel, in the split of their publishers."""

import numpy as np
import pytest

from nacs.data import load
from nacs.data.aeon_sets import SHIPPED


def test_japanese_vowels():
    dataset = load("japanese-vowels")
    assert dataset.kind == "series"
    assert len(dataset.test) == 370
    assert len(dataset.train) + len(dataset.val) == 270
    assert dataset.shape == (29, 13)
    assert len(dataset.classes) == 9
    lengths = {len(series) for series in dataset.test.inputs}
    assert min(lengths) == 7
    assert all((np.diff(series[:, 0]) == 1).all() for series in dataset.test.inputs)


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"japanese-vowels"}))
def test_every_set_loads(name):
    dataset = load(name)
    assert dataset.kind == "series"
    assert min(len(split) for split in (dataset.train, dataset.val, dataset.test)) > 0
    batch = dataset.train.batch(range(2))
    assert not batch.inputs[..., 0].isnan().any()
