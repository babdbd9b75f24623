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
from nacs.attentive import AttentiveCircuit, presets
from nacs.augment import distorted, mix, shifted
from nacs.data.base import Batch
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.graph import graph_figures
from nacs.optim import parameter_groups
from nacs.recipe import TrainConfig
from nacs.runs import (
    claim,
    load_run,
    load_tensors,
    read_json,
    read_metrics,
    write_json,
)
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


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_early_stopping_keeps_the_best_weights(tmp_path, digits, ema):
    """At a rate this high the validation loss soon gets worse."""
    config = replace(CONFIG, epochs=30, learning_rate=0.1, patience=2, ema=ema)
    result = run(tmp_path, digits, config)
    losses = [row["val_loss"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    best = losses.index(min(losses))
    assert result["epochs"] == len(losses) == best + 3 < 30
    model, _ = load_run(tmp_path)
    assert evaluate(model, digits.val, batch=config.batch)["loss"] == min(losses)
    assert evaluate(model, digits.test, batch=32)["loss"] == result["test_loss"]
    assert run(tmp_path, digits, config)["test_loss"] == result["test_loss"]


def test_collapse_is_reported(digits):
    model = AttentiveCircuit(presets.tiny())
    batch = digits.val.batch(range(4))
    figures = graph_figures(model, batch)
    assert 0 < figures["density"] < 1
    assert figures["signature_spread"] == pytest.approx(1, abs=0.2)
    with torch.no_grad():
        model.generator.processors.signatures.fill_(1)
    collapsed = graph_figures(model, batch)
    assert collapsed["density"] == pytest.approx(1)
    assert collapsed["signature_spread"] == pytest.approx(0, abs=1e-6)
    assert collapsed["graph_loss"] > figures["graph_loss"]
    assert (
        graph_figures(AttentiveCircuit(presets.perceiver(presets.tiny())), batch) == {}
    )


def test_conditional_circuits_train_and_report_their_graphs(tmp_path, digits):
    sizes = replace(presets.tiny(), generator="conditional")
    run(tmp_path, digits, replace(CONFIG, epochs=1), sizes)
    row = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert 0 < row["density"] < 1
    assert "graph_loss" not in row


@pytest.mark.parametrize("kind", ["mse", "kl", "repulsion"])
def test_every_regulariser_undoes_a_collapse(kind):
    model = AttentiveCircuit(replace(presets.tiny(), regulariser=kind))
    signatures = model.generator.processors.signatures
    with torch.no_grad():
        signatures.copy_(1 + 0.01 * torch.randn_like(signatures))
    before = graph_figures_of(model)
    optimiser = torch.optim.Adam([signatures], lr=0.05)
    for _ in range(50):
        optimiser.zero_grad()
        model.regulariser().backward()
        optimiser.step()
    assert graph_figures_of(model) < before - 0.3


def graph_figures_of(model):
    return graph_figures(model, Batch(torch.zeros(1, 1, 8, 8), torch.zeros(1)))[
        "density"
    ]


def test_metrics_go_to_tensorboard(tmp_path, digits):
    run(tmp_path, digits, replace(CONFIG, epochs=1, tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (loss,) = events.Scalars("val_loss")
    row = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert loss.value == pytest.approx(row["val_loss"], rel=1e-6)
    assert loss.step == 1


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
        {"randaugment": 9, "erasing": 0.25, "repeats": 3},
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


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_draws_for_every_eighth_of_a_batch(channels):
    pixels = torch.rand(1, channels, 16, 16).expand(32, -1, -1, -1)
    torch.manual_seed(1)
    changed = distorted(pixels, 9, 0.0, fill=torch.zeros(()))
    assert changed.shape == pixels.shape
    assert torch.isfinite(changed).all()
    moved = (changed - pixels).abs().mean((1, 2, 3)).unflatten(0, (8, 4))
    assert len({round(part.mean().item(), 6) for part in moved}) > 4
    torch.manual_seed(1)
    assert torch.equal(distorted(pixels, 9, 0.0, fill=torch.zeros(())), changed)


def test_erasing_fills_rectangles_of_some_images():
    torch.manual_seed(0)
    pixels = torch.rand(400, 1, 16, 16)
    erased = distorted(pixels, 0, 0.25, fill=torch.tensor(0.5))
    holes = (erased != pixels).squeeze(1)
    hit = holes.flatten(1).any(1)
    assert 70 < hit.sum() < 130  # 100 expected; 3.5 standard deviations are 30
    assert (erased[erased != pixels] == 0.5).all()
    for hole in holes[hit][:20]:
        rows, columns = hole.any(1), hole.any(0)
        assert hole.sum() == rows.sum() * columns.sum()


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


FULL = """
import resource, signal, sys
from nacs.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes then fail as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


def full_disk(*arguments):
    """The command line where no file can grow over 20 kB."""
    return subprocess.run(
        [sys.executable, "-c", FULL, *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_no_room_for_a_checkpoint_leaves_nothing_half_written(tmp_path, digits):
    out = tmp_path / "new"
    options = ["--preset", "tiny", "--training.epochs", "1"]
    done = full_disk("train", "digits", "--out", out, *options)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line.startswith("nacs: ")]
    assert len(told) == 1
    assert "could not be written" in told[0]
    assert "Traceback" not in done.stderr
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left <= {".lock", "config.json", "metrics.jsonl"}

    run(tmp_path / "run", digits, replace(CONFIG, epochs=1))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = full_disk("prune", tmp_path / "run", "--keep", "0.5")
    assert done.returncode == 2
    assert "could not be written" in done.stderr
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert before == after


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
