"""A search goes on after it was killed, and looks at the validation split alone."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from nacs import data
from nacs import tune as tuning
from nacs.baselines.rivals import RivalConfig
from nacs.cli import main
from nacs.data.base import Dataset, Split
from nacs.errors import DivergenceError, UserError
from nacs.models import MODELS
from nacs.neuronal import NeuronalModelConfig
from nacs.recipe import TrainConfig
from nacs.runs import read_json, read_metrics, write_metrics
from nacs.space import SPACES, changed, default_space, distributions
from nacs.tasks import fitted
from nacs.tune import Plan, tune

pytest.importorskip("optuna")
SEARCH = ["--search", "training.learning-rate=1e-4..1e-2", "sizes.modules=4,8"]


@pytest.fixture(scope="module")
def digits():
    whole = data.load("digits")
    parts = {each: getattr(whole, each).take(range(64)) for each in ("train", "val")}
    return replace(whole, **parts, test=whole.test.take(range(3)))


def plan(digits, out, space, **training):
    sizes = fitted(MODELS["attentive"].preset("tiny"), digits)
    return Plan(
        model="attentive",
        sizes=sizes,
        training=TrainConfig(**{"epochs": 2, "batch": 32, **training}),
        dataset=digits,
        space=space,
        metric="loss",
        out=out,
    )


def faked(monkeypatch, value):
    """In place of training: a figure an epoch, from the settings and the epoch."""

    def train(name, sizes, dataset, training, out, *, report):
        row = {}
        for epoch in range(1, training.epochs + 1):
            row = {"epoch": epoch, "val_loss": value(sizes, training, epoch)}
            report(row)
        return row

    monkeypatch.setattr(tuning, "train", train)


def trials(plan):
    return plan.study().get_trials(deepcopy=False)


RATES = {"training.learning_rate": "1e-4..1e-2"}


def test_the_search_finds_what_is_best(digits, tmp_path, monkeypatch):
    faked(monkeypatch, lambda s, t, e: abs(np.log(t.learning_rate / 1e-3)))
    found = tune(plan(digits, tmp_path, RATES, epochs=1), trials=20)
    assert 8e-4 < found["training"]["learning_rate"] < 1.25e-3
    assert found["finished"] == 20  # none is stopped after its last epoch


def test_a_trial_worse_than_the_median_is_stopped(digits, tmp_path, monkeypatch):
    seen = []

    def value(sizes, training, epoch):
        seen.append(epoch)
        return float(len(seen))  # every trial is worse than those before

    faked(monkeypatch, value)
    found = tune(plan(digits, tmp_path, RATES, epochs=10), trials=6)
    assert found["finished"] == 4
    assert found["pruned"] == 2
    assert len(seen) == 4 * 10 + 2 * 2  # the first fifth is given to all


def test_the_test_split_is_left_alone(digits, tmp_path, monkeypatch):
    looked = []
    batch = Split.batch
    monkeypatch.setattr(
        Split, "batch", lambda self, i: looked.append(len(self)) or batch(self, i)
    )
    tune(plan(digits, tmp_path, {"sizes.modules": "4,8"}, epochs=1), trials=1)
    assert set(looked) == {64}  # the test split has three
    result = read_json(tmp_path / "trials" / "0000" / "result.json")
    assert "val_loss" in result
    assert not any(name.startswith("test") for name in result)


def kill_in_second_trial(command, out):
    """Start a search, and kill it while its second trial is training."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        begun = out / "trials" / "0001" / "metrics.jsonl"
        until = time.monotonic() + 120
        while not begun.exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_search_ends_like_one_that_was_not(tmp_path, capsys):
    given = ["digits", "--preset", "tiny", "--trials", "3", "--training.epochs", "3"]
    given += [*SEARCH, "--training.batch", "256", "--json", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "nacs.cli", "tune", *given]
    kill_in_second_trial([*command, str(killed)], killed)
    torch.set_default_dtype(torch.float32)
    for out in (whole, killed):
        assert main(["tune", *given, str(out)]) == 0
    best = [read_json(out / "best.json")["best"] for out in (whole, killed)]
    assert len(best[0]) == 3
    for one, other in zip(*best, strict=True):
        assert one.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-5)
        names = one.pop("trial"), other.pop("trial")
        assert names in {("0000", "0000"), ("0001", "0001"), ("0002", "0003")}
        assert one == other  # the settings
    states = study_of(killed)
    assert sorted(state for _, state in states) == ["COMPLETE"] * 3 + ["FAIL"]
    rows = (killed / "trials" / "0001" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3]


def study_of(out):
    import optuna

    study = optuna.load_study(
        study_name="nacs", storage=f"sqlite:///{out / 'study.db'}"
    )
    return [(each.params, each.state.name) for each in study.get_trials()]


def test_a_trial_that_was_running_is_tried_again(digits, tmp_path, monkeypatch):
    made = plan(digits, tmp_path, RATES)
    faked(monkeypatch, lambda s, t, e: t.learning_rate)
    tune(made, trials=1)
    lost = made.study().ask(distributions(RATES, made.sizes, made.training))
    assert tune(made, trials=3)["finished"] == 3
    found = trials(made)
    assert found[1].state.name == "FAIL"
    assert found[2].params == lost.params
    assert found[2].user_attrs["folder"] == "0001"
    assert len(found) == 4


def test_an_epoch_that_was_told_and_not_saved_is_told_once(
    digits, tmp_path, monkeypatch
):
    """Optuna would warn; a warning is an error here."""
    faked(monkeypatch, lambda s, t, e: 7.0 + e)
    made = plan(digits, tmp_path, RATES)
    tune(made, trials=1)
    row = {"epoch": 1, "val_loss": 8.0}
    write_metrics(tmp_path / "trials" / "0001" / "metrics.jsonl", [row])
    tune(made, trials=2)
    assert trials(made)[1].intermediate_values == {1: 8.0, 2: 9.0}


def test_a_trial_that_kills_its_process_is_given_up(digits, tmp_path, monkeypatch):
    made = plan(digits, tmp_path, RATES)
    faked(monkeypatch, lambda s, t, e: t.learning_rate)
    tune(made, trials=1)
    ran = []

    def killed(plan, study, count, jobs, late):
        ran.append(count)
        made.study().ask(distributions(RATES, made.sizes, made.training))

    monkeypatch.setattr(tuning, "_run", killed)
    found = tune(made, trials=2)
    assert len(ran) == tuning.ATTEMPTS
    assert found["given up"] == 1
    assert found["finished"] == 1


def test_time_that_is_up_loses_nothing(digits, tmp_path, monkeypatch):
    now = [0.0]

    def value(sizes, training, epoch):
        now[0] += 10
        return training.learning_rate

    faked(monkeypatch, value)
    monkeypatch.setattr(tuning.time, "time", lambda: now[0])
    made = plan(digits, tmp_path, RATES, epochs=3)
    tune(made, trials=3, timeout=45)  # ends in the middle of the second
    assert [each.state.name for each in trials(made)] == ["COMPLETE", "FAIL", "WAITING"]
    assert tune(made, trials=3)["finished"] == 3
    assert trials(made)[2].params == trials(made)[1].params


def test_what_diverges_or_cannot_be_built_ends_no_search(digits, tmp_path, monkeypatch):
    def value(sizes, training, epoch):
        if training.learning_rate > 1e-3:
            raise DivergenceError("the loss is nan")
        return training.learning_rate

    faked(monkeypatch, value)
    space = {"training.learning_rate": "1e-4,1e-2", "sizes.tokenizer.width": "7,32"}
    made = plan(digits, tmp_path, space)
    found = tune(made, trials=12)
    assert 0 < found["finished"] < 12
    assert found["finished"] + found["pruned"] == 12
    why = {each.user_attrs.get("why", "") for each in trials(made)}
    assert any("nan" in each for each in why)
    assert any(each.startswith("impossible") for each in why)


def test_two_jobs_share_a_study(digits, tmp_path):
    made = plan(digits, tmp_path, {"sizes.modules": "4..8"}, epochs=1)
    found = tune(made, trials=4, jobs=2)
    assert found["finished"] + found["pruned"] == 4
    assert len(trials(made)) == 4


def test_the_command_trains_as_the_best_trial_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["digits", "--preset", "tiny", "--trials", "2", "--training.epochs", "1"]
    given += ["--training.batch", "256", "--search", "sizes.width=0.5x,2x"]
    given += ["training.learning-rate=1e-4..1e-2", "sizes.gated=false"]
    assert main(["tune", *given, "--out", "s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read_json(tmp_path / "s" / "best.json")
    words = shlex.split(found["command"])
    assert "--sizes.no-gated" in words
    assert main([*words[1:], "--out", "r"]) == 0
    config = read_json(tmp_path / "r" / "config.json")
    assert config["sizes"] == found["sizes"]
    assert config["training"] == found["training"]
    result = read_json(tmp_path / "r" / "result.json")
    assert result["best_val_loss"] == pytest.approx(found["best"][0]["loss"], rel=1e-6)
    assert main(["tune", *given, "--out", "s"]) == 0
    assert found["command"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sizes.modul": "1,2"}, "no such option.*did you mean sizes.modules"),
        ({"sizes.modules": "9..3"}, "expected LOW..HIGH, the lower number first"),
        ({"sizes.modules": "a..b"}, "expected a value of type int, got 'a'"),
        ({"training.learning_rate": "1..inf"}, "expected LOW..HIGH"),
    ],
)
def test_a_space_without_sense_is_refused(digits, tmp_path, space, message):
    with pytest.raises(UserError, match=message):
        tune(plan(digits, tmp_path, space))
    assert not (tmp_path / "study.db").exists()


def test_what_else_is_refused(digits, tmp_path, monkeypatch):
    faked(monkeypatch, lambda s, t, e: t.learning_rate)
    made = plan(digits, tmp_path, RATES)
    tune(made, trials=1)
    with pytest.raises(UserError, match="holds another search"):
        tune(replace(made, space={"sizes.modules": "4,8"}), trials=2)
    with pytest.raises(UserError, match="no metric 'f1'; metrics: loss, rmse"):
        tune(replace(made, metric="f1"))
    with pytest.raises(UserError, match="no validation figure 'rmse'; it has loss"):
        tune(replace(made, metric="rmse", out=tmp_path / "b"), trials=1)
    with pytest.raises(UserError, match="0 trials"):
        tune(made, trials=0)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").touch()
    with pytest.raises(UserError, match="already holds something"):
        tune(replace(made, out=tmp_path / "c"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="give --jobs"):
        tune(made)


def test_without_optuna_the_extra_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna.distributions", None)
    with pytest.raises(UserError, match=r"nacs\[tune\]"):
        tune(plan(digits, tmp_path, RATES))


def test_a_space_may_speak_of_multiples(digits, tmp_path):
    made = plan(digits, tmp_path, {})
    kinds = distributions(
        {
            "sizes.modules": "0.5x..2x",
            "sizes.bandwidth": "0.1..1",
            "sizes.layers": "1x",
        },
        made.sizes,
        made.training,
    )
    modules = kinds["sizes.modules"]
    assert [modules.low, modules.high] == [
        made.sizes.modules // 2,
        made.sizes.modules * 2,
    ]
    assert kinds["sizes.bandwidth"].log
    assert kinds["sizes.layers"].choices == (made.sizes.layers,)


def series():
    inputs = [np.zeros((4, 2)) for _ in range(6)]
    ids = np.arange(6).astype(str)
    split = Split(inputs, np.arange(6) % 2, ids)
    parts = {"train": split, "val": split, "test": split}
    return Dataset(name="series", kind="series", classes=("a", "b"), **parts)


OURS = [n for n, row in MODELS.items() if row.config.__module__.startswith("nacs.")]
"""Benchmarks add others to the table."""


@pytest.mark.parametrize("name", OURS)
def test_every_model_has_a_space_that_fits(name, digits):
    """Both ends of every setting, from the first preset: all can be built."""
    row = MODELS[name]
    sequences = row.config in (NeuronalModelConfig, RivalConfig)
    sizes = fitted(row.preset("tiny"), series() if sequences else digits)
    assert type(sizes) in SPACES
    kinds = distributions(default_space(sizes), sizes, TrainConfig())
    assert len(kinds) >= 4
    for setting, kind in kinds.items():
        ends = kind.choices if hasattr(kind, "choices") else (kind.low, kind.high)
        for value in ends:
            row.build(changed(sizes, TrainConfig(), {setting: value})[0])


@pytest.mark.slow
def test_the_same_search_on_a_local_ray(tmp_path):
    pytest.importorskip("ray", reason="Ray is absent: pip install 'nacs[ray]'")
    command = ["tune", "digits", "--preset", "tiny", "--training.epochs", "2", "--ray"]
    command += [*SEARCH, "--trials", "3", "--training.batch", "256"]
    usual = {**os.environ, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "nacs.cli", *command, "--out", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=400,
        env=usual,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = read_json(tmp_path / "s" / "best.json")
    assert found["finished"] + found["pruned"] == 3
    states = study_of(tmp_path / "s")
    assert {frozenset(params) for params, _ in states} == {
        frozenset({"training.learning_rate", "sizes.modules"})
    }
    folder = tmp_path / "s" / "trials" / found["best"][0]["trial"]
    rows = read_metrics(folder / "metrics.jsonl")
    assert found["best"][0]["loss"] == pytest.approx(rows[-1]["val_loss"], rel=1e-6)
