"""Training repeats exactly, resumes after a kill, and stops with a message."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from nacs import data
from nacs.attentive import presets
from nacs.augment import mix, shifted
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.optim import parameter_groups
from nacs.recipe import TrainConfig
from nacs.runs import claim, load_run, load_tensors, read_json, write_json
from nacs.train import train

CONFIG = TrainConfig(epochs=2, batch=32, learning_rate=3e-3)


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def digits():
    whole = data.load("digits")
    return replace(whole, train=whole.train.take(range(0, len(whole.train), 8)))


def run(out, digits, config=CONFIG, sizes=None):
    return train("attentive", sizes or presets.tiny(), digits, config, out)


def numbers(folder):
    return load_tensors(folder / "checkpoint" / "model.safetensors")


def same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_leaves_what_it_promises(tmp_path, digits):
    result = run(tmp_path, digits)
    assert (
        read_json(tmp_path / "result.json")["test_accuracy"] == result["test_accuracy"]
    )
    rows = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] < rows[0]["loss"]
    assert 0 < rows[0]["density"] < 1
    model, config = load_run(tmp_path)
    assert config["model"] == "attentive"
    assert evaluate(model, digits.test)["accuracy"] == result["test_accuracy"]
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.json", "result.json", "metrics.jsonl", "model.safetensors"} <= left
    assert not [name for name in left if name.endswith((".pt", ".pkl", ".bin"))]


def test_seeds_repeat_and_differ(tmp_path, digits):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, digits, replace(CONFIG, epochs=1, seed=seed))
    a, b, c = (numbers(tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a, c)


PROGRAM = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from nacs import data
from nacs.attentive import presets
from nacs.recipe import TrainConfig
from nacs.train import train
torch.set_num_threads(1)
whole = data.load("digits")
digits = replace(whole, train=whole.train.take(range(0, len(whole.train), 8)))
train("attentive", presets.tiny(), digits,
      TrainConfig(epochs=8, batch=32, learning_rate=3e-3), Path(sys.argv[1]))
"""


def test_a_killed_run_ends_with_the_same_numbers(tmp_path, digits):
    config = replace(CONFIG, epochs=8)
    run(tmp_path / "whole", digits, config)
    folder = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)])
    metrics = folder / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            break
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    run(folder, digits, config)
    assert same(numbers(folder), numbers(tmp_path / "whole"))
    rows = [json.loads(x)["epoch"] for x in metrics.read_text().splitlines()]
    assert rows == list(range(1, 9))


def test_a_folder_is_used_once(tmp_path, digits):
    run(tmp_path, digits, replace(CONFIG, epochs=1))
    with pytest.raises(UserError, match="another configuration"):
        run(tmp_path, digits, replace(CONFIG, epochs=3))
    with claim(tmp_path), pytest.raises(UserError, match="another run"):
        run(tmp_path, digits, replace(CONFIG, epochs=1))


def test_a_loss_that_is_not_finite_names_the_batch(tmp_path, digits):
    inputs = digits.train.inputs.astype(np.float32)
    inputs[:] = np.inf
    broken = replace(digits, train=replace(digits.train, inputs=inputs))
    with pytest.raises(UserError, match="in epoch 1, batch 1"):
        run(tmp_path, broken)


def test_early_stopping(tmp_path, digits):
    config = replace(
        CONFIG, epochs=20, learning_rate=1e-12, patience=1, warmup_epochs=0
    )
    config = replace(config, min_learning_rate=0.0)
    assert run(tmp_path, digits, config)["epochs"] < 20


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.1},
        {"mixup": 0.8},
        {"shift": 2},
        {"ema": 0.9},
        {"cutmix": 1.0},
        {"mixup": 0.8, "cutmix": 1.0},
        {"precision": "bf16"},
    ],
)
def test_options(tmp_path, digits, change):
    result = run(tmp_path, digits, replace(CONFIG, epochs=1, **change))
    assert np.isfinite(result["test_loss"])


def test_signatures_start_from_the_prior(tmp_path, digits):
    sizes = replace(presets.tiny(), start="prior", graph="frozen", module_dropout=0.5)
    run(tmp_path, digits, replace(CONFIG, epochs=1), sizes)
    assert np.isfinite(read_json(tmp_path / "result.json")["test_loss"])


def test_averaged_weights_trail_the_trained_ones(tmp_path, digits):
    config = replace(CONFIG, epochs=2, ema=0.9)
    run(tmp_path / "averaged", digits, config)
    run(tmp_path / "plain", digits, replace(CONFIG, epochs=2))
    averaged, plain = (numbers(tmp_path / name) for name in ("averaged", "plain"))
    assert not same(averaged, plain)
    state = load_tensors(tmp_path / "averaged" / "checkpoint" / "training.safetensors")
    trained = {k[6:]: v for k, v in state.items() if k.startswith("model.")}
    assert same(trained, plain)
    kept = {k[5:]: v for k, v in state.items() if k.startswith("kept.")}
    assert same(kept, averaged)


def test_mixed_targets_are_distributions():
    images, targets = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    for options in ({"mixup": 1.0}, {"cutmix": 1.0}, {"smoothing": 0.2}):
        mixed, soft = mix(images, targets, classes=10, **options)
        assert mixed.shape == images.shape
        torch.testing.assert_close(soft.sum(-1), torch.ones(16))
        assert (soft >= 0).all()
    same_images, hard = mix(images, targets, classes=10)
    assert same_images is images
    assert hard is targets


def test_shifted_images_hold_the_same_pixels():
    image = torch.zeros(64, 1, 8, 8)
    image[:, :, 4, 4] = 1
    moved = shifted(image, 2)
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.ones(64))
    places = {tuple(each.nonzero()[0].tolist()) for each in moved}
    assert {min(p[1] for p in places), max(p[1] for p in places)} == {2, 6}
    assert len(places) > 10
    assert shifted(image, 0) is image


def test_weight_decay_spares_codes_signatures_and_vectors():
    from nacs.attentive import AttentiveCircuit

    model = AttentiveCircuit(presets.tiny())
    groups = parameter_groups(model, weight_decay=0.05, signature_rate=10.0)
    named = {id(p): name for name, p in model.named_parameters()}
    decayed = [named[id(p)] for g in groups if g["weight_decay"] for p in g["params"]]
    assert decayed
    assert not [n for n in decayed if "codes" in n or "signatures" in n or "bias" in n]
    fast = [named[id(p)] for g in groups if g["factor"] == 10 for p in g["params"]]
    assert all(name.endswith("signatures") for name in fast)
    assert len(fast) == 2
    assert sum(len(g["params"]) for g in groups) == len(named)


def test_broken_runs_get_one_line(tmp_path, digits):
    with pytest.raises(UserError, match="no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such file"):
        load_run(tmp_path)
    run(tmp_path, digits, replace(CONFIG, epochs=1))
    weights = tmp_path / "checkpoint" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(UserError, match="broken checkpoint"):
        load_run(tmp_path)
    weights.write_bytes(whole)
    config = read_json(tmp_path / "config.json")
    config["sizes"]["width"] = 64
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match="does not fit"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="no readable JSON"):
        load_run(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": -1.0}, "positive"),
    ],
)
def test_bad_training_options(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)
