"""Sets of points keep what turning, drawing and thinning must not change."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacs.data import load
from nacs.data.base import Split
from nacs.data.point_sets import (
    SOLIDS,
    as_points,
    centred,
    drawn,
    dropped,
    make_solids,
    resampled,
    rotated,
)
from nacs.data.splits import Samples, assemble
from nacs.errors import UserError

angles = st.floats(-360, 360)
axes = st.sampled_from(["vertical", "any"])
seeds = st.integers(0, 99)

# float32 coordinates of about 1 to 4, several roundings after another
CLOSE = {"rtol": 0, "atol": 5e-6}


def objects(count=5, points=12, features=1, seed=0):
    random = np.random.default_rng(seed)
    places = random.normal(size=(count, points, 3 + features)).astype(np.float32)
    return Split(places, np.arange(count) % 2, np.arange(count).astype(str))


def ragged(lengths=(3, 9, 4)):
    whole = objects(len(lengths), max(lengths))
    inputs = [each[:n] for each, n in zip(whole.inputs, lengths, strict=True)]
    return Split(inputs, whole.targets, whole.ids)


def images(*pictures):
    pixels = np.array(pictures, dtype=np.uint8)[:, None]
    count = len(pixels)
    return Samples(
        name="here",
        kind="image",
        inputs=pixels,
        targets=np.arange(count) % 2,
        ids=np.arange(count).astype(str),
        classes=("a", "b"),
    )


def distances(each):
    return np.linalg.norm(each[:, None, :3] - each[None, :, :3], axis=-1)


def within(each, other):
    """Whether every point of one set is one of the other's."""
    return {tuple(p) for p in each.tolist()} <= {tuple(p) for p in other.tolist()}


@given(degrees=angles, axis=axes, seed=seeds)
def test_a_turn_keeps_distances_and_features(degrees, axis, seed):
    split = objects()
    turned = rotated(split, degrees, axis=axis, seed=seed)
    for before, after in zip(split.inputs, turned.inputs, strict=True):
        np.testing.assert_allclose(distances(after), distances(before), **CLOSE)
        assert np.array_equal(after[:, 3:], before[:, 3:])
        if axis == "vertical":
            assert np.array_equal(after[:, 2], before[:, 2])
    assert split.inputs.tobytes() == objects().inputs.tobytes()


@given(first=angles, second=angles, axis=axes, seed=seeds)
def test_turns_add_up(first, second, axis, seed):
    once = rotated(objects(), first + second, axis=axis, seed=seed)
    half = rotated(objects(), first, axis=axis, seed=seed)
    twice = rotated(half, second, axis=axis, seed=seed)
    np.testing.assert_allclose(twice.inputs, once.inputs, **CLOSE)


@given(degrees=st.floats(1, 179), seed=seeds)
def test_a_turn_about_any_axis_is_by_the_angle_asked_for(degrees, seed):
    """A rotation's trace is 1 + 2 cos of its angle; the unit vectors show it."""
    unit = Split(np.eye(3)[None].repeat(4, 0), np.zeros(4, int), np.arange(4))
    turned = rotated(unit, degrees, axis="any", seed=seed).inputs
    traces = turned.trace(axis1=1, axis2=2)
    np.testing.assert_allclose(traces, 1 + 2 * np.cos(np.radians(degrees)), atol=1e-12)
    assert (
        len(np.unique(turned.round(6), axis=0)) == 4
    )  # objects have axes of their own


def test_a_vertical_turn_is_anticlockwise():
    split = Split(np.array([[[1.0, 0, 5]]]), np.zeros(1, int), np.arange(1))
    turned = rotated(split, 90).inputs
    np.testing.assert_allclose(turned, [[[0, 1, 5]]], atol=1e-15)


@given(share=st.floats(0, 0.99), more=st.floats(0, 0.99), seed=seeds)
def test_what_stays_is_a_part_and_shrinks(share, more, seed):
    share, more = sorted((share, more))
    split = objects(points=30)
    some, fewer = (dropped(split, s, seed=seed) for s in (share, more))
    assert some.inputs.shape[1] == max(1, round(30 * (1 - share)))
    for whole, most, least in zip(split.inputs, some.inputs, fewer.inputs, strict=True):
        assert len(np.unique(most, axis=0)) == len(most)
        assert within(least, most)
        assert within(most, whole)
    assert np.array_equal(some.targets, split.targets)


def test_an_object_never_loses_its_last_point():
    split = dropped(ragged((1, 2, 9)), 0.9)
    assert [len(each) for each in split.inputs] == [1, 1, 1]
    assert split.batch([0, 1, 2]).keep.all()
    with pytest.raises(UserError, match=r"share in \[0, 1\), got 1"):
        dropped(objects(), 1)


def test_ragged_sets_stay_ragged():
    split = ragged()
    for changed in (rotated(split, 30), centred(split), dropped(split, 0.0)):
        assert [each.shape for each in changed.inputs] == [(3, 4), (9, 4), (4, 4)]
    assert resampled(split, points=5).inputs.shape == (3, 5, 4)


@given(seed=seeds, copies=st.integers(1, 4), count=st.integers(1, 12))
def test_copies_are_of_the_objects_own_points(seed, copies, count):
    split = objects()
    found = resampled(split, points=count, copies=copies, seed=seed)
    assert found.inputs.shape == (5 * copies, count, 4)
    assert np.array_equal(found.targets, np.tile(split.targets, copies))
    assert np.array_equal(found.ids, np.tile(split.ids, copies))
    for row, each in enumerate(found.inputs):
        assert within(each, split.inputs[row % 5])
        assert len(np.unique(each, axis=0)) == count


def test_copies_differ_and_repeat_by_seed():
    split = objects(points=40)
    first, again = (resampled(split, points=9, copies=2).inputs for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:5], first[5:])
    assert not np.array_equal(
        first, resampled(split, points=9, copies=2, seed=1).inputs
    )


def test_too_few_points_are_drawn_again():
    found = resampled(objects(points=3), points=10).inputs
    assert found.shape == (5, 10, 4)
    assert len(np.unique(found[0], axis=0)) <= 3


def test_turned_copies_face_every_way():
    split = objects(count=1, points=1)
    found = resampled(split, points=1, copies=400, turned=True).inputs[:, 0]
    x, y, z, feature = split.inputs[0, 0]
    np.testing.assert_allclose(np.hypot(*found[:, :2].T), np.hypot(x, y), **CLOSE)
    assert (found[:, 2:] == (z, feature)).all()
    ways = np.histogram(np.arctan2(found[:, 1], found[:, 0]), 4, (-np.pi, np.pi))[0]
    # 100 in each quarter; five deviations of sqrt(400 * 3 / 16) = 8.7
    assert np.abs(ways - 100).max() < 44


@pytest.mark.parametrize(("points", "copies"), [(0, 1), (1, 0)])
def test_nothing_cannot_be_drawn(points, copies):
    with pytest.raises(UserError, match="expected at least 1"):
        resampled(objects(), points=points, copies=copies)


def test_only_training_objects_are_copied_and_turned():
    whole = assemble(make_solids(40, points=20), seed=0)
    few = drawn(whole, points=8, copies=3, turned=True, seed=0)
    assert len(few.train) == 3 * len(whole.train)
    for part in ("val", "test"):
        before, after = getattr(whole, part), getattr(few, part)
        assert np.array_equal(before.ids, after.ids)
        for each, other in zip(after.inputs, before.inputs, strict=True):
            assert within(each, other)
    assert not within(few.train.inputs[0], whole.train.inputs[0])
    assert few.train.deviation is whole.train.deviation


def test_points_fall_where_the_light_is():
    picture = np.zeros((4, 8))
    picture[0, 7], picture[3, 0] = 255, 51
    points = as_points(images(picture), points=2000).inputs[0]
    assert points.dtype == np.float32
    bright, dim = points[points[:, 3] == 1], points[points[:, 3] != 1]
    np.testing.assert_allclose(dim[:, 3], 0.2, rtol=1e-6)
    # right and up; the longer side spans [-1, 1], a pixel a quarter of 1
    assert (bright[:, 0] >= 0.75).all()
    assert (bright[:, 0] <= 1).all()
    assert (bright[:, 1] >= 0.25).all()
    assert (bright[:, 1] <= 0.5).all()
    assert (dim[:, 0] <= -0.75).all()
    assert (dim[:, 1] <= -0.25).all()
    assert np.ptp(bright[:, 0]) > 0.24  # all over the pixel
    assert (points[:, 2] == 0).all()
    # five times as bright, five sixths: five deviations of sqrt(2000 * 5 / 36) = 17
    assert abs(len(bright) - 2000 * 5 / 6) < 84


def test_a_picture_without_light_is_drawn_from_evenly():
    points = as_points(images(np.zeros((2, 2))), points=400).inputs[0]
    assert (points[:, 3] == 0).all()
    for column in (0, 1):  # 200 on each side; five deviations of 10
        assert abs((points[:, column] > 0).sum() - 200) < 50


def test_only_grey_images_become_points(tmp_path):
    dataset = load("points:digits")
    assert (dataset.kind, dataset.shape, dataset.outputs) == ("points", (256, 4), 10)
    assert dataset.facts.source == "points:digits"
    assert np.array_equal(dataset.test.targets, load("digits").test.targets)
    with pytest.raises(UserError, match="points are made of grey images of 8 bits"):
        load("points:points:digits")
    colours = np.zeros((30, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x=colours, y=np.arange(30) % 2)
    with pytest.raises(UserError, match="points are made of grey images of 8 bits"):
        load(f"points:{tmp_path / 'x.npz'}")
    with pytest.raises(UserError, match="at least 1 of points, got 0"):
        as_points(images(np.ones((2, 2))), points=0)


def test_solids_are_what_they_are_called():
    made = make_solids(8, points=500)
    assert made.classes == SOLIDS
    assert made.targets.tolist() == [0, 1, 2, 3] * 2
    spans = np.ptp(made.inputs, axis=1)
    plates, poles = spans[made.targets == 2], spans[made.targets == 3]
    # noise of deviation 0.02 spans about 6 of them
    assert (plates[:, 2] < 0.2).all()
    assert (plates[:, :2] > 1).all()
    assert (poles[:, 2] > 2 * poles[:, :2].max(1)).all()
    reach = np.linalg.norm(made.inputs[made.targets == 0], axis=-1)
    assert reach.min() > 0.6
    assert reach.max() < 1.4
    assert np.array_equal(made.inputs, make_solids(8, points=500).inputs)


def test_centred_objects_reach_one():
    split = objects()
    moved = centred(replace(split, inputs=9 + 4 * np.asarray(split.inputs)))
    np.testing.assert_allclose(moved.inputs[..., :3].mean(1), 0, atol=1e-6)
    reach = np.linalg.norm(moved.inputs[..., :3], axis=-1).max(1)
    np.testing.assert_allclose(reach, 1, rtol=1e-6)
    np.testing.assert_array_equal(moved.inputs[..., 3], 9 + 4 * split.inputs[..., 3])
    lonely = Split(np.full((1, 2, 3), 7.0), np.zeros(1, int), np.arange(1))
    assert (centred(lonely).inputs == 0).all()
