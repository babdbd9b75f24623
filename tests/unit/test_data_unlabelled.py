"""New data for a trained model is read as its training data was, labels or none."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from nacs.data import load
from nacs.data.base import DataFacts
from nacs.data.unlabelled import read_unlabelled
from nacs.errors import UserError


def facts(kind, shape, **changes):
    usual = {"source": "x", "kind": kind, "classes": ("a", "b"), "shape": shape}
    usual |= {"columns": (), "size": None, "length": None}
    return DataFacts(**(usual | {"mean": None, "deviation": None} | changes))


SERIES = facts("series", (9, 3), columns=("volt", "amp"))


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        (tmp_path / "x.csv").write_text("\n".join(lines))
        return [tmp_path / "x.csv"]

    return write


def test_series_need_no_label(table):
    split = read_unlabelled(
        table("id,time,volt,amp", "p,0,1,2", "p,1,,4", "q,5,6,7"), SERIES
    )
    assert [name.rpartition(":")[2] for name in split.ids] == ["p", "q"]
    assert_array_equal(split.inputs[0], [[0, 1, 2], [1, np.nan, 4]])


def test_a_model_of_several_numbers_has_targets_of_that_many(table):
    known = facts(
        "series", (9, 3), target_mean=[1.0, 2.0, 3.0], target_deviation=[1.0] * 3
    )
    split = read_unlabelled(table("id,time,volt,amp", "p,0,1,2", "q,5,6,7"), known)
    assert split.batch([0, 1]).targets.tolist() == [[-1, -2, -3]] * 2


def test_labels_that_are_there_are_ignored(table):
    """Even where they would contradict each other."""
    lines = ("id,time,label,volt,amp", "p,0,yes,1,2", "p,1,no,3,4")
    split = read_unlabelled(table(*lines), SERIES)
    assert_array_equal(split.inputs[0], [[0, 1, 2], [1, 3, 4]])
    assert_array_equal(split.targets, [0])


def test_columns_must_be_those_of_training(table):
    with pytest.raises(UserError, match="expected the columns volt, amp as in train"):
        read_unlabelled(table("id,time,amp,volt", "p,0,1,2"), SERIES)
    plain = facts("series", (9, 3))
    with pytest.raises(UserError, match="expected 3 columns, as in training, got 2"):
        read_unlabelled(table("id,time,volt", "p,0,1"), plain)


def test_bad_values_are_named(table):
    with pytest.raises(UserError, match="row 3: time runs backwards"):
        read_unlabelled(table("id,time,volt,amp", "p,1,1,1", "p,0,1,1"), SERIES)


def test_texts(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "hey", "split": "nope"}))
    (tmp_path / "y.txt").write_text("you")
    split = read_unlabelled(
        [tmp_path / "x.jsonl", tmp_path / "y.txt"], facts("bytes", (9,), length=2)
    )
    assert [bytes(each) for each in split.inputs] == [b"hey", b"you"]
    assert split.batch([0, 1]).inputs.shape == (2, 2)


def test_clouds(tmp_path):
    (tmp_path / "x.xyz").write_text("0 0 1\n0 2 0\n")
    np.savez(tmp_path / "y.npz", points_mm=np.full((1, 4, 3), 500))
    scaled = facts("points", (4, 3), mean=[0.0] * 3, deviation=[2.0] * 3)
    split = read_unlabelled([tmp_path / "x.xyz", tmp_path / "y.npz"], scaled)
    assert_allclose(split.batch([0]).inputs[0], [[0, 0, 0.5], [0, 1, 0]])
    assert_allclose(split.batch([1]).inputs[0], np.full((4, 3), 0.25))


def test_colours_are_weighed_as_pillow_does(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "x.png")
    split = read_unlabelled([tmp_path / "x.png"], facts("image", (1, 5, 5)))
    # Pillow rounds with 16-bit weights: one level of 255 is its error
    near = np.abs(np.asarray(picture.convert("L"), int) - split.inputs[0, 0])
    assert near.max() <= 1
    picture.convert("L").save(tmp_path / "y.png")
    split = read_unlabelled([tmp_path / "y.png"], facts("image", (3, 5, 5)))
    assert_array_equal(split.inputs[0, 0], split.inputs[0, 2])


def test_float_images_stay_what_they_are(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=images)
    split = read_unlabelled([tmp_path / "x.npz"], facts("image", (1, 4, 4)))
    assert_array_equal(split.inputs[:, 0], images)
    images[1, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", x=images)
    with pytest.raises(UserError, match=r"x\.npz:1 has NaN"):
        read_unlabelled([tmp_path / "x.npz"], facts("image", (1, 4, 4)))


def test_pictures_are_scaled_as_in_training(tmp_path):
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for row in range(6):
            image = Image.new("L", (9 + row, 7), 40 * row)
            image.save(tmp_path / "pictures" / label / f"{row}.png")
    dataset = load(tmp_path / "pictures", size=8)
    assert dataset.facts.size == 8
    split = read_unlabelled([tmp_path / "pictures"], dataset.facts)
    assert split.inputs.shape == (12, 1, 8, 8)
    assert_array_equal(split.mean, dataset.train.mean)
