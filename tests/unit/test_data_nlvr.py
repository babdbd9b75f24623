"""NLVR: what is read, what is drawn, and sentences that are true by program."""

import io
import json
import lzma
import re
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nacs.data import load
from nacs.data.nlvr import (
    COLOURS,
    SHAPES,
    Item,
    Vocabulary,
    as_samples,
    picture,
    read_nlvr,
    read_statements,
    render,
    reordered,
)
from nacs.data.scenes import SKILLS, make_scenes, part_of, sentences
from nacs.data.splits import assemble
from nacs.errors import UserError

BLACK, YELLOW, LIGHT, GREY = (0, 0, 0), (255, 255, 0), (211,) * 3, (128,) * 3
SQUARE = {"x_loc": 0, "y_loc": 80, "size": 20, "type": "square", "color": "Black"}
ROW = {
    "sentence": "There is a black square.",
    "label": "true",
    "identifier": "7-1",
    "structured_rep": [
        [SQUARE],
        [{"x_loc": 5, "y_loc": 6, "size": 10, "type": "circle", "color": "#0099ff"}],
        [],
    ],
}


def written(folder, *rows):
    path = folder / "nlvr1_dev.json.xz"
    with lzma.open(path, "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    return path


def test_a_row_is_a_statement(tmp_path):
    (read,) = read_statements(written(tmp_path, ROW))
    assert (read.sentence, read.true, read.name) == (ROW["sentence"], True, "7-1")
    square = Item(0, 80, 20, "black", "square")
    assert read.scene == ((square,), (Item(5, 6, 10, "blue", "circle"),), ())
    (read,) = read_statements(
        written(tmp_path, {k: v for k, v in ROW.items() if k != "label"}),
        labelled=False,
    )
    assert read.true is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, "row 2: .* got 'maybe'"),
        ({"structured_rep": [[], []]}, "2 boxes"),
        ({"structured_rep": [[{}]]}, "row 2: expected .* KeyError"),
        ({"sentence": "?"}, "a sentence"),
        (
            {"structured_rep": [[SQUARE | {"type": "star"}]]},
            "shape star",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_nlvr(written(tmp_path, ROW, ROW | change))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(UserError, match="lines of NLVR's JSON"):
        read_nlvr(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="an empty file"):
        load(path)


def test_pixels_are_where_a_scene_has_its_items(tmp_path):
    (read,) = read_statements(written(tmp_path, ROW))
    image = render(read.scene)
    assert image.shape == (100, 400, 3)
    assert tuple(image[80, 0]) == tuple(image[99, 19]) == BLACK
    assert tuple(image[79, 0]) == tuple(image[80, 20]) == LIGHT
    assert tuple(image[50, 125]) == tuple(image[99, 299]) == GREY
    assert tuple(image[11, 160]) == COLOURS["blue"]


def test_a_small_picture_has_no_gaps_and_keeps_the_mean():
    scene = ((Item(0, 0, 30, "yellow", "square"),), (), ())
    small = picture(scene, 20)
    assert small.shape == (3, 20, 60)
    assert tuple(small[:, 0, 0]) == YELLOW
    assert (small[:, :, 6:] == 211).all()
    whole = render(scene, gap=0).mean((0, 1))
    # a pixel is rounded to one of 256 values
    np.testing.assert_allclose(small.mean((1, 2)), whole, atol=0.5)


def test_pictures_are_those_that_were_published(shared):
    folder = shared / "data"
    if not (folder / "nlvr1_dev_images_sample.npz").is_file():
        pytest.skip("nlvr1_dev_images_sample.npz is not in ../shared/data")
    rows = {r.name: r for r in read_statements(folder / "nlvr1_dev.json.xz")}
    packed = np.load(folder / "nlvr1_dev_images_sample.npz")
    bounds, off, checked = packed["offsets"], [], 0
    for place, name in enumerate(packed["names"][:120]):
        found = re.match(r"dev-(\d+-\d+)-(\d)\.png", str(name))
        if found is None or found[1] not in rows:
            continue
        encoded = packed["blob"][bounds[place] : bounds[place + 1]].tobytes()
        image = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        ours = render(reordered(rows[found[1]])[int(found[2])].scene)
        off.append(np.abs(ours.astype(int) - image).mean() / 255)
        checked += 1
    assert checked > 50
    assert np.mean(off) < 2e-3  # edges of circles and triangles differ by a pixel


def test_six_orders_stay_together_and_share_their_label(tmp_path):
    rows = [
        ROW | {"identifier": str(i), "sentence": f"there is {i}", "label": label}
        for i, label in enumerate(["true", "false"] * 15)
    ]
    dataset = load(written(tmp_path, *rows))
    assert dataset.context == "bytes"
    splits = (dataset.train, dataset.val, dataset.test)
    assert sum(map(len, splits)) == 180
    names = [{each.rpartition("-")[0] for each in split.ids} for split in splits]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    batch = dataset.train.batch(range(6))
    assert len(set(batch.targets.tolist())) == 1
    told = bytes(batch.context[0][batch.context_keep[0]].tolist())
    assert re.fullmatch(rb"there is \d+", told)


def test_the_first_order_is_the_file_s():
    made = make_scenes(2, seed=0, part="train")[0]
    again = reordered(made)
    assert [each.scene for each in again] == list(permutations(made.scene))
    assert again[0].scene == made.scene


def test_unseen_words_have_numbers_of_their_own():
    vocabulary = Vocabulary.of(["There is a cat.", "there are 2 cats"], spare=50)
    assert vocabulary.known == ("2", "a", "are", "cat", "cats", "is", "there")
    assert vocabulary.encode("A cat, there").tolist() == [1, 3, 6]
    unseen = vocabulary.encode("flute ball flute")
    assert unseen[0] == unseen[2] != unseen[1]
    assert ((unseen >= 7) & (unseen < vocabulary.size)).all()


def test_scenes_are_alike_for_one_seed_and_half_of_them_true():
    made = make_scenes(60, seed=3, part="val")
    assert made == make_scenes(60, seed=3, part="val")
    assert made != make_scenes(60, seed=4, part="val")
    known = {each.text: each for each in sentences()}
    by_text: dict[str, list[bool]] = {}
    for each in made:
        assert part_of(each.sentence) == "val"
        assert known[each.sentence].holds(each.scene) == each.true
        by_text.setdefault(each.sentence, []).append(each.true)
    assert all(sum(true) * 2 == len(true) for true in by_text.values())


def test_no_sentence_is_said_twice_and_every_skill_is_in_every_part():
    told = sentences()
    assert len({each.text for each in told}) == len(told)
    found = {(each.skill, part_of(each.text)) for each in told}
    assert len(found) == 3 * len(SKILLS)


ITEMS = st.builds(
    Item,
    st.integers(0, 70),
    st.integers(0, 70),
    st.sampled_from([10, 20, 30]),
    st.sampled_from(list(COLOURS)),
    st.sampled_from(SHAPES),
)
SCENES = st.tuples(*[st.lists(ITEMS, min_size=1, max_size=5).map(tuple)] * 3)
SAID = {each.text: each.holds for each in sentences()}


@given(SCENES, st.permutations(range(3)))
def test_the_order_of_boxes_changes_no_truth(scene, order):
    other = tuple(scene[place] for place in order)
    for holds in list(SAID.values())[::7]:
        assert holds(scene) == holds(other)


@given(SCENES)
def test_sentences_agree_with_each_other(scene):
    for noun in ("yellow item", "circle", "black square"):
        some = SAID[f"there is a {noun}"](scene)
        counts = [SAID[f"there are exactly {n} {noun}s"](scene) for n in range(2, 7)]
        counts = [SAID[f"there is exactly 1 {noun}"](scene), *counts]
        many = SAID[f"there are many {noun}s"](scene)
        few = SAID[f"there are few {noun}s"](scene)
        assert some == SAID[f"there are any {noun}s"](scene)
        assert sum(counts) <= 1
        assert few == any(counts[:3])
        assert (many or few) == some
        assert not (many and few)
    for one, other in (("circle", "square"), ("blue item", "triangle")):
        for there, back in (("above", "below"), ("to the left of", "to the right of")):
            told = SAID[f"there is a {one} {there} a {other}"](scene)
            assert told == SAID[f"there is a {other} {back} a {one}"](scene)


def test_a_tower_is_told_from_its_base_up():
    base, top = Item(40, 80, 20, "black", "square"), Item(40, 59, 20, "blue", "square")
    scene = ((base, top),) * 3
    assert SAID["there is a blue block over a black block"](scene)
    assert not SAID["there is a black block over a blue block"](scene)
    assert SAID["there is a tower with a blue block at the top"](scene)
    assert SAID["there is a tower with a black block at the base"](scene)
    assert SAID["there is a tower with exactly two blocks"](scene)
    towers = [
        s for s in make_scenes(400, seed=0, part="train") if "tower" in s.sentence
    ]
    for each in towers:
        for box in each.scene:
            assert [item.y for item in box] == [80, 59, 38, 17][: len(box)]


def test_statements_become_a_dataset_with_tokens():
    made = make_scenes(80, seed=0, part="train")
    vocabulary = Vocabulary.of(each.sentence for each in made)
    samples = as_samples(made, "made", encode=vocabulary.encode, kind="tokens", side=8)
    dataset = assemble(samples, seed=0)
    assert (dataset.shape, dataset.context) == ((3, 8, 24), "tokens")
    batch = dataset.val.batch([0])
    row = int(np.flatnonzero(samples.ids == dataset.val.ids[0])[0])
    expected = vocabulary.encode(made[row].sentence)
    assert batch.context[0].tolist() == expected.tolist()
