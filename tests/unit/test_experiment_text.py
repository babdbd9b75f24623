"""Table 3 at its smallest, told and drawn from its JSON; its other scales are ready."""

import json

import numpy as np
import pytest
import torch

from nacs import data
from nacs.data.base import Split
from nacs.data.listops import SYMBOLS, make_listops
from nacs.data.splits import assemble
from nacs.experiments import find, sequences, text, workshop
from nacs.experiments.sequences import (
    ARMS,
    LISTOPS,
    LONG,
    NAC,
    PERCEIVER,
    REVIEWS,
    arms,
    tasks,
)
from nacs.experiments.workshop import Workshop
from nacs.models import count_parameters, lookup


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def test_smoke_is_told_drawn_and_not_done_twice(tmp_path, monkeypatch):
    experiment = find("table-3")
    assert experiment.draw is not None
    found = experiment.run(Workshop(tmp_path / "runs"))
    kept = json.loads(json.dumps(found))
    assert kept == found
    for told in kept["tasks"].values():
        assert tuple(told["rows"]) == ARMS
        for row in told["rows"].values():
            assert len(row["accuracy"]["seeds"]) == 2
            check_groups(row, told["facts"])
        assert told["rows"][NAC]["behind"]["mean"] == 0
    (short,) = (t for t in tasks(Workshop(tmp_path / "runs")) if t.name == LISTOPS)
    check_operators(kept["tasks"][LISTOPS]["rows"], short.dataset.test)
    page = experiment.tell(kept)
    assert all(each in page for each in ("37.1", "66.5", "68.2", *ARMS))
    rows = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert [len(set(each)) for each in (rows[:7], rows[7:13], rows[13:])] == [1] * 3
    experiment.draw(kept, tmp_path / "table-3.png")
    assert (tmp_path / "table-3.png").stat().st_size > 10_000

    def refuse(*_):
        raise AssertionError("trained what was trained")

    monkeypatch.setattr(workshop, "train", refuse)
    again = experiment.run(Workshop(tmp_path / "runs"))
    assert again == found


def check_groups(row, facts):
    """Groups by length, weighed by their sizes, make up the whole."""
    means = [group["mean"] for group in row["by length"]]
    assert len(means) == len(facts["edges"]) - 1
    assert min(means) <= row["accuracy"]["mean"] <= max(means)


def check_operators(rows, split):
    """Accuracies by the outermost operator, weighed by how many begin with each."""
    starts = [SYMBOLS[sample[0]] for sample in split.inputs]
    for row in rows.values():
        parts = [starts.count(n) * o["mean"] for n, o in row["by operator"].items()]
        assert sum(parts) / len(starts) == pytest.approx(row["accuracy"]["mean"])


def test_rivals_are_of_equal_size():
    for task in tasks(Workshop(folder=None, scale="smoke")):
        sizes = [count_parameters(lookup(a.model).build(a.sizes)) for a in arms(task)]
        # one step of the hidden width is less than 1 % of these models
        assert max(sizes) < 1.01 * min(sizes)
        assert {a.sizes.tokenizer.kind for a in arms(task)} <= {"tokens", "bytes"}


@pytest.mark.parametrize("name", [LISTOPS, LONG])
def test_the_paper_s_scale_can_be_built(monkeypatch, name):
    stand_in = {
        "listops": lambda: assemble(make_listops((300, 20, 20)), seed=0),
        "imdb": lambda: sequences._made_reviews(50),
    }
    monkeypatch.setattr(data, "load", lambda wanted, **_: stand_in[wanted]())
    (task,) = (
        each
        for each in tasks(Workshop(folder=None, scale="paper"))
        if each.name == name
    )
    with torch.device("meta"):
        compete = arms(task)
        sizes = [count_parameters(lookup(a.model).build(a.sizes)) for a in compete]
    assert max(sizes) < 1.01 * min(sizes)
    assert sizes[0] > 20e6
    assert (task.training.epochs, task.training.mixup) == (400, 0)
    assert set(task.rates) == set(ARMS)


def test_groups_by_length_are_even():
    inputs = [np.zeros(n, np.uint8) for n in (*range(1, 9), 100)]
    split = Split(inputs, np.zeros(9), np.arange(9).astype(str), limit=50)
    assert text.length_edges(split) == [1, 3, 5, 7, 50]
    assert text.groups(split, [1, 3, 5, 7, 50]).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    same = Split(inputs[:1], np.zeros(1), np.arange(1).astype(str))
    assert text.length_edges(same) == [0, 1]


def test_counts_alone_tell_praise_from_blame():
    """As half of the made-up reviews are praise, the most frequent class does not."""
    (task,) = (
        each
        for each in tasks(Workshop(folder=None, scale="smoke"))
        if each.name == REVIEWS
    )
    plain = text._plain(task)
    assert plain[text.COUNTS]["accuracy"] > 0.9
    assert plain[text.MAJORITY]["accuracy"] < 0.7


def test_counts_see_no_more_than_models():
    inputs = [np.array([1, 1, 2, 9], np.uint8)]
    split = Split(inputs, np.zeros(1), np.array(["a"]), limit=3)
    counts = text._counts(split)
    assert counts[0, [1, 2, 9]] == pytest.approx(np.log([3, 2, 1]))
    assert text.lengths(split).tolist() == [3]


def test_here_takes_other_samples_to_test_than_to_learn(shared):
    work = Workshop(folder=None, scale="here", files=shared / "data")
    short, reviews, long = tasks(work)
    assert short.released is not None
    assert len(short.released) == 7523
    counts = [len(s) for s in (reviews.dataset.train, reviews.dataset.val)]
    assert (*counts, len(reviews.dataset.test)) == sequences.HERE_REVIEWS
    for task in (reviews, long):
        most = sequences.HERE_BYTES[task.name]
        assert max(text.lengths(task.dataset.test)) == most
    assert [arm.name for arm in arms(long)] == [NAC, PERCEIVER]
    read = [each.tobytes() for each in reviews.dataset.train.inputs]
    kept = [each.tobytes() for each in reviews.dataset.val.inputs]
    assert np.mean([each in set(read) for each in kept]) < 0.01  # reviews sent twice
