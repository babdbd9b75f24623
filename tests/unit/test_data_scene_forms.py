"""Sentences in NLVR's forms: what they say, and that NLVR's writers mean the same."""

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacs.data.nlvr import Item, read_statements, words
from nacs.data.scene_forms import say
from nacs.data.scenes import make_forms, part_of

DRAWS = 40_000


@cache
def said():
    """Many sentences by their words."""
    random = np.random.default_rng(0)
    drawn = (say(random, towers=bool(place % 3)) for place in range(DRAWS))
    return {" ".join(words(text)): holds for text, holds in drawn}


def tower(*colours):
    """Blocks from the base up."""
    return tuple(
        Item(40, 80 - 21 * level, 20, colour, "square")
        for level, colour in enumerate(colours)
    )


TOWERS = (tower("blue", "black"), tower("blue"), tower("yellow", "blue", "blue"))
SCATTERED = (
    (Item(90, 90, 10, "black", "circle"), Item(50, 20, 30, "black", "square")),
    (Item(40, 60, 30, "yellow", "triangle"),),
    (Item(0, 40, 20, "blue", "square"), Item(60, 50, 10, "yellow", "circle")),
)


@pytest.mark.parametrize(
    ("scene", "text", "true"),
    [
        (TOWERS, "there are 4 blue blocks", True),
        (TOWERS, "there are 3 blue blocks", False),
        (TOWERS, "there are three blue blocks", True),
        (TOWERS, "there are exactly two blue blocks", False),
        (TOWERS, "there is only one blue block", False),
        (TOWERS, "there are atleast 2 blue blocks at the top", True),
        (TOWERS, "there are atleast 2 black blocks", False),
        (TOWERS, "there is no yellow block", False),
        (TOWERS, "there is a black block over a blue block", True),
        (TOWERS, "there is a black block below a blue block", False),
        (TOWERS, "there are two blue blocks at the base", True),
        (TOWERS, "there is exactly one black block at the top", True),
        (TOWERS, "there is a tower with exactly one block", True),
        (TOWERS, "there is a tower with four blocks", False),
        (TOWERS, "there is a tower with two blue blocks stacked together", True),
        (TOWERS, "there is a blue block as the top of a tower with three blocks", True),
        (TOWERS, "there is a blue block as the top of a tower with 2 blocks", False),
        (TOWERS, "the tower with two blocks has a black block at the top", True),
        (TOWERS, "there is a blue tower with only one block", True),
        (TOWERS, "there is a blue tower with only two blocks", False),
        (TOWERS, "two of the towers has a blue base", True),
        (TOWERS, "all towers have a blue base", False),
        (SCATTERED, "there is a circle touching the edge", True),
        (SCATTERED, "there are exactly two circles touching the edge", False),
        (SCATTERED, "there is a circle touching the corner", True),
        (SCATTERED, "there is a blue square touching the corner", False),
        (SCATTERED, "there is a yellow circle touching the base", False),
        (SCATTERED, "there is a yellow triangle not touching any edge", True),
        (SCATTERED, "there are exactly two squares", True),
        (SCATTERED, "there is a box with only one item", True),
        (SCATTERED, "there is a box with only black items", True),
        (SCATTERED, "there is a box with 2 items", True),
        (
            SCATTERED,
            "one of the grey square have 3 items and a yellow one on top",
            False,
        ),
        (
            SCATTERED,
            "there is at least 1 box which has 2 objects and the yellow one on top",
            False,
        ),
        (
            SCATTERED,
            "there is at least a box which has 2 objects and the blue one on top",
            True,
        ),
        (SCATTERED, "two of the grey box have 2 items and a blue one on top", False),
        (SCATTERED, "each box has a triangle", False),
        (SCATTERED, "one of the grey box has a black circle", True),
    ],
)
def test_what_a_sentence_says(scene, text, true):
    assert said()[text](scene) is true


def test_nlvr_s_writers_mean_the_same(shared):
    """Of their statements for development half are in words that the grammar has."""
    path = shared / "data" / "nlvr1_dev.json.xz"
    if not path.is_file():
        pytest.skip("nlvr1_dev.json.xz is not in ../shared/data")
    statements = defaultdict(list)
    for each in read_statements(path):
        statements[" ".join(words(each.sentence))].append(each)
    common = statements.keys() & said().keys()
    right = [
        said()[text](each.scene) == each.true
        for text in common
        for each in statements[text]
    ]
    assert len(common) > 70
    assert np.mean(right) > 0.98


@given(st.permutations(range(3)), st.integers(0, 2**32), st.booleans())
def test_the_order_of_boxes_changes_no_truth(order, seed, towers):
    random = np.random.default_rng(seed)
    scene = TOWERS if towers else SCATTERED
    other = tuple(scene[place] for place in order)
    for _ in range(20):
        _, holds = say(random, towers=towers)
        assert holds(scene) == holds(other)


def test_forms_are_alike_for_one_seed_and_half_of_them_true():
    made = make_forms(200, seed=3, part="val")
    assert made == make_forms(200, seed=3, part="val")
    assert made != make_forms(200, seed=4, part="val")
    assert len(made) == 200
    near = 0
    for false, true in zip(made[::2], made[1::2], strict=True):
        assert false.sentence == true.sentence
        assert (false.true, true.true) == (False, True)
        assert part_of(false.sentence) == "val"
        holds = said().get(" ".join(words(true.sentence)))
        assert holds is None or (holds(true.scene) and not holds(false.scene))
        looks = [
            sorted((item.colour, item.shape) for box in each.scene for item in box)
            for each in (false, true)
        ]
        near += looks[0] == looks[1]
    assert 10 < near < 50
