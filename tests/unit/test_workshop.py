"""What was trained or measured is kept; what changed is asked again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nacs import data
from nacs.attentive import presets
from nacs.data.corruptions import CORRUPTIONS, corrupted
from nacs.errors import UserError
from nacs.experiments import workshop
from nacs.experiments.images import PAPER_TRAINING, same_size
from nacs.experiments.statistics import compared
from nacs.experiments.workshop import Arm, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def digits():
    found = data.load("digits")
    few = {part: getattr(found, part).take(range(40)) for part in ("train", "val")}
    return replace(found, **few)


@pytest.fixture
def arms(digits):
    sizes = fitted(presets.tiny(), digits)
    return [
        Arm(name="NAC, scale-free", model="attentive", sizes=sizes),
        Arm(name="Perceiver IO", model="perceiver", sizes=presets.perceiver(sizes)),
    ]


def runs(folder, arms, digits, **training):
    config = TrainConfig(epochs=1, **training)
    return Workshop(folder).runs("study", arms, digits, config, 0)


def asked(run, **settings):
    """What a run answers, and how often its model was looked at."""
    seen = []

    def act(model):
        seen.append(model)
        return {"parameters": count_parameters(model)}

    return run.measure("size", act, **settings), len(seen)


def test_a_measure_is_kept_until_its_settings_change(tmp_path, arms, digits):
    first = runs(tmp_path, arms, digits)["Perceiver IO"]
    answer, looks = asked(first, share=0.5)
    assert looks == 1
    again = runs(tmp_path, arms, digits)["Perceiver IO"]
    assert asked(again, share=0.5) == (answer, 0)
    assert asked(again, share=0.6) == (answer, 1)


def test_what_comes_before_is_trained_before(tmp_path, arms, digits, monkeypatch):
    started = []

    def train(*rest, start=None):
        started.append(start)
        return real(*rest, start=start)

    real = workshop.train
    monkeypatch.setattr(workshop, "train", train)

    def second(epochs):
        first = Workshop(tmp_path).runs(
            "first", arms, digits, TrainConfig(epochs=epochs), 0
        )
        return Workshop(tmp_path).runs(
            "second", arms, digits, TrainConfig(epochs=1), 0, first
        )["NAC, scale-free"]

    run = second(epochs=1)
    answer, looks = asked(run)
    assert looks == 1
    assert started == [None, run.before.folder]
    assert asked(second(epochs=1)) == (answer, 0)
    assert run.described["start"] == run.before.described
    with pytest.raises(UserError, match="another configuration"):
        asked(second(epochs=2))


def test_a_run_that_was_killed_is_gone_on_with(tmp_path, arms, digits, monkeypatch):
    real, trained = workshop.train, []

    def train(name, *rest, **more):
        trained.append(name)
        if trained == ["attentive", "perceiver"]:
            raise KeyboardInterrupt
        return real(name, *rest, **more)

    monkeypatch.setattr(workshop, "train", train)
    circuit, rival = runs(tmp_path, arms, digits).values()
    asked(circuit)
    with pytest.raises(KeyboardInterrupt):
        asked(rival)
    for run in runs(tmp_path, arms, digits).values():
        asked(run)
    assert trained == ["attentive", "perceiver", "perceiver"]


def test_another_training_is_not_taken_for_this_one(tmp_path, arms, digits):
    asked(runs(tmp_path, arms, digits)["Perceiver IO"])
    with pytest.raises(UserError, match="another configuration"):
        asked(runs(tmp_path, arms, digits, batch=20)["Perceiver IO"])


def test_what_is_left_is_told(tmp_path, arms, digits, capsys):
    work = Workshop(tmp_path)
    training = TrainConfig(epochs=1)
    work.expect(1)
    asked(work.runs("before", arms, digits, training, 1)["NAC, scale-free"])
    work.expect(2)
    for run in work.runs("study", arms, digits, training, 0).values():
        asked(run)
    said = capsys.readouterr().err
    assert "NAC, scale-free, seed 0: 2 of 2 trainings left" in said
    assert "Perceiver IO, seed 0: 1 of 2 trainings left, about 0 min" in said


def test_a_file_that_is_not_given_is_named(tmp_path):
    work = Workshop(tmp_path, "here", tmp_path)
    with pytest.raises(UserError, match=r"points\.npz.*give it with --data"):
        work.file("points.npz", "give it with --data")


def test_a_rival_is_brought_to_the_size_of_the_circuit():
    circuit = presets.tiny()
    wanted = count_parameters(lookup("attentive").build(circuit))
    found = same_size("perceiver", presets.perceiver(circuit), wanted)
    size = count_parameters(lookup("perceiver").build(found))
    assert abs(size / wanted - 1) < 0.01


def test_the_recipe_of_the_paper_is_that_of_table_4():
    assert PAPER_TRAINING.learning_rate == 3e-4 * PAPER_TRAINING.batch / 512
    assert PAPER_TRAINING.min_learning_rate == 1e-5 * PAPER_TRAINING.batch / 512
    assert (PAPER_TRAINING.epochs, PAPER_TRAINING.warmup_epochs) == (400, 25)
    assert PAPER_TRAINING.weight_decay == 0.05


numbers = st.floats(-10, 10)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6))
def test_intervals_are_those_of_a_paired_test(pairs):
    ours, theirs = map(list, zip(*pairs, strict=True))
    off = np.subtract(ours, theirs)
    if np.ptp(off) < 1e-6:
        return
    wanted = stats.ttest_1samp(off, 0).confidence_interval(0.95)
    found = compared(ours, theirs)
    assert found["low"] == pytest.approx(wanted.low)
    assert found["high"] == pytest.approx(wanted.high)


def test_one_seed_says_nothing_of_the_spread():
    assert compared([1.0], [0.0])["low"] == -np.inf


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_keeps_what_an_image_is(name):
    pytest.importorskip("corrupt_tta", reason="corrupt-tta is not installed")
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(2, 3, 32, 32), dtype=np.uint8)
    split = replace(data.load("digits").test.take([0, 1]), inputs=pixels)
    state = np.random.get_state()[1].copy()
    spoilt = corrupted(split, name, severity=5)
    assert spoilt.inputs.shape == pixels.shape
    assert spoilt.inputs.dtype == np.uint8
    assert (spoilt.inputs != pixels).any()
    assert (spoilt.inputs == corrupted(split, name, severity=5).inputs).all()
    assert (np.random.get_state()[1] == state).all()


def test_grey_stays_grey():
    pytest.importorskip("corrupt_tta", reason="corrupt-tta is not installed")
    split = data.load("mnist-5k").test.take([0, 1])
    assert corrupted(split, "fog").inputs.shape == split.inputs.shape


def test_more_severe_is_further_off():
    pytest.importorskip("corrupt_tta", reason="corrupt-tta is not installed")
    pixels = np.full((4, 3, 32, 32), 128, np.uint8)
    split = replace(data.load("digits").test.take(range(4)), inputs=pixels)
    off = [
        np.abs(
            np.subtract(corrupted(split, "gaussian_noise", severity=s).inputs, 128.0)
        ).mean()
        for s in (1, 3, 5)
    ]
    assert off[0] < off[1] < off[2]


def test_a_wrong_corruption_says_which_there_are():
    pytest.importorskip("corrupt_tta", reason="corrupt-tta is not installed")
    split = data.load("mnist-5k").test.take([0])
    with pytest.raises(UserError, match="gaussian_noise"):
        corrupted(split, "rain")
