"""The probes ask what they say, and digits survive becoming events."""

from pathlib import Path

import numpy as np
import pytest

from nacs.data import load
from nacs.data.generated import (
    as_events,
    kalman,
    make_integral,
    make_recall,
    make_sensors,
)
from nacs.errors import UserError


def test_recall_is_answered_by_the_key_alone():
    samples = make_recall(200, keys=5, values=3)
    for series, target in zip(samples.inputs, samples.targets, strict=True):
        keys, values = series[:, 1:6], series[:, 6:]
        assert (keys.sum(1) == 1).all()
        assert (keys[:-1].sum(0) == 1).all()
        assert values[-1].sum() == 0
        (place,) = np.flatnonzero(keys[:-1] @ keys[-1])
        assert values[place].argmax() == target
    assert set(samples.targets) == {0, 1, 2}


def test_the_integral_is_that_of_the_function():
    samples = make_integral(300, count=4000)
    times, seen = samples.inputs[..., 0], samples.inputs[..., 1]
    assert (np.diff(times) >= 0).all()
    steps = np.diff(times)
    found = (steps * (seen[:, 1:] + seen[:, :-1]) / 2).sum(1)
    off = found - samples.targets
    # what lies before the first and after the last time is left out: up to a percent
    assert np.abs(off).mean() < 0.02
    assert np.square(seen.mean(1) - samples.targets).mean() > 0.2
    assert samples.targets.var() == pytest.approx(1, abs=0.3)


def test_the_kalman_filter_is_better_than_the_last_value():
    samples = make_sensors(400)
    found = np.array([kalman(series) for series in samples.inputs])
    best = np.square(found - samples.targets).mean()
    last = np.square(samples.inputs[:, -2, -1] - samples.targets).mean()
    assert best < 0.6 < last
    # a filter knows how wrong it is: its own estimate is not correlated with its error
    assert abs(np.mean((samples.targets - found) * found)) < 0.05


def test_times_alone_have_no_values():
    dataset = load("times:event-mnist")
    assert dataset.shape[1] == 1
    assert len(dataset.test) == 1000
    with pytest.raises(UserError, match="expected series, got image"):
        load("times:digits")


def test_probes_repeat_and_differ_by_seed():
    for make in (make_recall, make_integral, make_sensors):
        first, second, other = make(9), make(9), make(9, seed=1)
        assert np.array_equal(first.inputs, second.inputs)
        assert not np.array_equal(first.inputs, other.inputs)


def test_events_tell_the_whole_picture():
    digits = load("mnist-5k").test
    samples = load("event-mnist").test
    for image, series in list(zip(digits.inputs, samples.inputs, strict=True))[:50]:
        ends = np.round(series[:, 0] * 784).astype(int)
        drawn = np.repeat(series[:, 1], np.diff(ends, prepend=0))
        assert np.array_equal(drawn, image.reshape(-1) >= 128)
        assert (np.diff(series[:, 1]) != 0).all()
    assert np.array_equal(digits.targets, samples.targets)


def test_events_of_any_grey_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x=images, y=np.arange(30) % 2)
    dataset = load(f"events:{tmp_path / 'x.npz'}")
    assert dataset.kind == "series"
    assert dataset.facts.source == f"events:{tmp_path / 'x.npz'}"
    np.savez(
        tmp_path / "y.npz", x=np.zeros((30, 4, 4, 3), np.uint8), y=np.arange(30) % 2
    )
    with pytest.raises(UserError, match="events are made of grey images of 8 bits"):
        load(f"events:{tmp_path / 'y.npz'}")
    with pytest.raises(UserError, match="no such file"):
        load("events:nowhere.npz")


def test_a_path_is_never_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load(Path("digits"))
    (tmp_path / "digits").mkdir()
    with pytest.raises(UserError, match="expected class folders"):
        load(Path("digits"))
    assert len(load("digits").train) == 1259
    assert as_events(make_images()).name == "events:x"


def make_images():
    from nacs.data.splits import Samples

    return Samples(
        name="x",
        kind="image",
        inputs=np.zeros((2, 1, 3, 3), np.uint8),
        targets=np.array([0, 1]),
        ids=np.array(["a", "b"]),
        classes=("a", "b"),
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_thinned_series_keep_their_end(share):
    split = load("event-mnist").test
    thin = split.thinned(share)
    kept = sum(map(len, thin.inputs)) / sum(map(len, split.inputs))
    assert kept == pytest.approx(1 - share, abs=0.02)
    for whole, less in zip(split.inputs, thin.inputs, strict=True):
        assert np.array_equal(less[-1], whole[-1])
        assert {tuple(row) for row in less} <= {tuple(row) for row in whole}
    again = split.thinned(share).inputs
    assert all(map(np.array_equal, thin.inputs, again))
    with pytest.raises(ValueError, match=r"a share in \[0, 1\), got 1"):
        split.thinned(1)
