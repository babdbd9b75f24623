"""ListOps is drawn by its rules, and answered as the released files answer."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nacs.data import listops, load
from nacs.data.listops import (
    SYMBOLS,
    fingerprint,
    make_listops,
    read_released,
    released_rows,
    solve,
)
from nacs.errors import UserError

DIGITS = st.integers(0, 9)
TREES = st.recursive(
    DIGITS,
    lambda below: st.tuples(
        st.sampled_from(("MIN", "MAX", "MED", "SM", "FIRST", "LAST")),
        st.lists(below, min_size=1, max_size=10),
    ),
    max_leaves=40,
)
SMALL = "aa28977cabe2446490185b7b8c58c7b3da9fd4ebdc9bca37fa6e562fbf06360b"
"""SHA-256 of 500 samples of 501 to 1,999 symbols."""


def value(tree):
    """The answer of a tree, node by node."""
    if isinstance(tree, int):
        return tree
    name, below = tree
    ordered = sorted(map(value, below))
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2
    return {
        "MIN": ordered[0],
        "MAX": ordered[-1],
        "MED": middle,
        "SM": sum(ordered) % 10,
        "FIRST": value(below[0]),
        "LAST": value(below[-1]),
    }[name]


def written(tree, *, brackets):
    """A tree as the released files write it, or as the LRA does."""
    if isinstance(tree, int):
        return str(tree)
    name, below = tree
    inside = " ".join(written(each, brackets=brackets) for each in below)
    return f"( [{name} {inside} ] )" if brackets else f"{name} {inside} X"


def words(tokens):
    return [SYMBOLS[token] for token in tokens]


@given(tree=TREES)
@example(tree=("MED", [3, 4]))
@example(tree=("MED", [2, 3, 9, 1]))
def test_solve_answers_any_tree(tree):
    for brackets in (False, True):
        assert solve(written(tree, brackets=brackets).split()) == value(tree)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[MIN 1 two ]", "got 'two'"),
        ("[AVG 1 2 ]", r"got '\[AVG'"),
        ("[MIN 1 2", "0 closed and 1 open"),
        ("1 2", "2 closed and 0 open"),
        ("1 ]", "got ']'"),
        ("[MIN ]", "got ']'"),
        ("", "0 closed and 0 open"),
    ],
)
def test_solve_refuses_what_is_no_tree(text, wrong):
    with pytest.raises(UserError, match=wrong):
        solve(text.split())


def shape(tokens):
    """Arguments of every operator, and the depth of every node, word by word."""
    counts, depths, opened = [], [], []
    for word in words(tokens):
        if word == "X":
            counts.append(opened.pop())
            continue
        depths.append(len(opened) + 1)
        if opened:
            opened[-1] += 1
        if not word.isdigit():
            opened.append(0)
    return counts, depths


@pytest.mark.parametrize(("shortest", "longest"), [(5, 40), (30, 31), (501, 1999)])
def test_samples_obey_the_rules(shortest, longest):
    samples = make_listops((150, 20, 30), shortest=shortest, longest=longest)
    assert len({each.tobytes() for each in samples.inputs}) == 200
    assert np.bincount(samples.parts).tolist() == [150, 20, 30]
    for tokens, target in zip(samples.inputs, samples.targets, strict=True):
        assert shortest <= len(tokens) <= longest
        assert solve(words(tokens)) == target
        counts, depths = shape(tokens)
        assert set(counts) <= set(range(2, 11))
        assert max(depths) <= 10


def test_nodes_are_as_frequent_as_the_rules_say():
    """Of all trees, whatever their length; deviations are 3 standard errors at most."""
    drawn = list(listops._draw(np.random.default_rng(0), 1, 10**6))
    assert len(drawn) == listops.CHUNK
    digits = np.mean([len(tokens) == 1 for tokens, _ in drawn])
    assert digits == pytest.approx(0.75, abs=3 * (0.75 * 0.25 / 20_000) ** 0.5)
    trees = [tokens for tokens, _ in drawn if 1 < len(tokens) < 300]
    operators = np.bincount([tree[0] for tree in trees], minlength=15)[10:14]
    assert operators == pytest.approx(len(trees) / 4, abs=3 * (len(trees) / 4) ** 0.5)
    whole = [tokens for tokens, _ in drawn if len(tokens) > 1]
    roots = np.bincount([root_arguments(tree) for tree in whole], minlength=11)
    assert roots[2:] == pytest.approx(len(whole) / 9, abs=3 * (len(whole) / 9) ** 0.5)


def root_arguments(tokens):
    depth, count = 0, 0
    for token in tokens:
        count += depth == 1 and token != 14
        depth += (token >= 10) - 2 * (token == 14)
    return count


def test_the_deepest_nodes_are_digits():
    samples = make_listops((100, 1, 1))
    deepest = 0
    for tokens in samples.inputs:
        level = 0
        for token in tokens:
            level += token in range(10, 14)
            assert level < 10
            deepest = max(deepest, level)
            level -= token == 14
    assert deepest == 9


def test_fewer_are_the_first_of_more():
    few = make_listops((50, 5, 5), shortest=5, longest=40)
    more = make_listops((5000, 5, 5), shortest=5, longest=40)
    assert all(map(np.array_equal, few.inputs, more.inputs))
    other = make_listops((50, 5, 5), shortest=5, longest=40, seed=1)
    assert fingerprint(few) != fingerprint(other)
    assert fingerprint(few) == fingerprint(
        make_listops((50, 5, 5), shortest=5, longest=40)
    )


def test_a_fingerprint_knows_symbols_lengths_and_answers():
    few = make_listops((8, 1, 1), shortest=5, longest=9)
    first, second, *rest = few.inputs
    other = (first + 1) % 15
    moved = [np.append(first, second[0]), second[1:], *rest]
    changed = [
        replace(few, inputs=[other, second, *rest]),
        replace(few, inputs=moved),
        replace(few, targets=few.targets[::-1]),
    ]
    assert len({fingerprint(each) for each in [few, *changed]}) == 4


def test_the_long_draw_is_the_published_one():
    """Its first 500 samples, and the share of its most frequent answer."""
    samples = make_listops((300, 100, 100))
    assert fingerprint(samples) == SMALL
    most = np.bincount(samples.targets).max() / 500
    assert most == pytest.approx(0.17, abs=0.05)  # 3 standard errors


def test_the_short_set_is_the_published_one():
    dataset = load("listops-short")
    assert dataset.kind == "tokens"
    splits = (dataset.train, dataset.val, dataset.test)
    assert tuple(map(len, splits)) == listops.SIZES["listops-short"][2]
    assert dataset.shape == (40,)
    assert dataset.classes == tuple("0123456789")


def test_another_draw_is_refused(monkeypatch):
    monkeypatch.setitem(listops.SIZES, "listops-short", (5, 9, (10, 2, 2)))
    with pytest.raises(UserError, match="listops-short: expected samples of SHA-256"):
        load("listops-short")


def test_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="expected 102 different samples of 1 to 1 sym"):
        make_listops((100, 1, 1), shortest=1, longest=1)


def released(folder, rows):
    path = folder / "listops_spinn.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test_d20s.tsv", "\n".join(rows))
    return path


def test_released_rows_are_read_as_the_lra_writes(tmp_path):
    rows = ["3\t( ( [MIN 3 ) ( ( [SM 9 ) 4 ) ] )", "7\t7", "1\t( ( [LAST 1 ) ] )"]
    rows[0] = "3\t( ( ( [MIN 3 ) ( ( ( [SM 9 ) 4 ) ] ) ) ] )"
    samples = read_released(released(tmp_path, rows))
    assert [words(each) for each in samples.inputs] == [
        ["MIN", "3", "SM", "9", "4", "X", "X"],
        ["7"],
    ]
    assert samples.targets.tolist() == [3, 7]
    with pytest.raises(UserError, match="expected test_d8.tsv in it"):
        read_released(tmp_path / "listops_spinn.zip", "test_d8.tsv")
    with pytest.raises(UserError, match="expected rows of 0, 1"):
        read_released(released(tmp_path, rows[2:]))
    with pytest.raises(UserError, match="expected test_d20s.tsv in it"):
        read_released(tmp_path / "nowhere.zip")


@pytest.mark.parametrize("name", ["test_d8", "test_d14", "test_d20s"])
def test_solve_gives_the_released_labels(shared, name):
    rows = released_rows(shared / "data" / "listops_spinn.zip", f"{name}.tsv")
    assert len(rows) == 10_000
    assert [solve(told) for _, told in rows] == [label for label, _ in rows]
