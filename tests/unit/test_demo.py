"""The demo, with one epoch and few digits: its files, keys and pictures."""

import json
import multiprocessing
import time
from dataclasses import replace

import pytest
import torch

from nacs import data, demo
from nacs.attentive import AttentiveCircuit, presets
from nacs.draw import draw_graph
from nacs.graph import circuit_graph
from nacs.recipe import TrainConfig
from nacs.train import train


def test_demo(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    whole = data.load("mnist-5k")
    few = replace(
        whole,
        train=whole.train.take(range(0, 3500, 20)),
        val=whole.val.take(range(0, 500, 10)),
        test=whole.test.take(range(0, 1000, 10)),
    )
    monkeypatch.setattr(demo.data, "load", lambda _: few)
    result = demo.demo(tmp_path, epochs=1)
    assert result == json.loads((tmp_path / "result.json").read_text())
    for key in (
        "test_accuracy",
        "dropped_80_accuracy",
        "perceiver_dropped_80_accuracy",
        "module_spread",
    ):
        assert 0 <= result[key] <= 1, key
    rows = result["curves"]["attentive circuit"]
    assert rows[0]["speedup"] == 1
    assert rows[-1]["speedup"] > rows[0]["speedup"]
    for picture in ("graph.png", "drops.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


def test_graph_of_one_sample_and_of_a_single_module(tmp_path):
    conditional = replace(presets.tiny(), generator="conditional")
    model = AttentiveCircuit(conditional).eval()
    tokens, keep = model.tokenizer(torch.randn(2, 1, 8, 8))
    design = model.design(tokens, keep)
    first, second = (circuit_graph(model, design, sample) for sample in (0, 1))
    assert (first.links != second.links).any()
    alone = circuit_graph(AttentiveCircuit(replace(presets.tiny(), modules=1)))
    assert alone.density == 0
    draw_graph(alone, tmp_path / "one.svg", title="one module")
    assert (tmp_path / "one.svg").exists()


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_trains_beside_the_circuit(tmp_path, killed):
    """It is done when the circuit is, or goes on in this process if it was killed."""
    digits = data.load("digits")
    digits = replace(digits, train=digits.train.take(range(64)))
    sizes = presets.perceiver(presets.tiny())
    run = ("perceiver", sizes, digits, TrainConfig(epochs=2), tmp_path)
    with demo._beside(*run):
        if killed:
            while not (tmp_path / "metrics.jsonl").exists():
                time.sleep(0.001)
            (process,) = multiprocessing.active_children()
            process.kill()
    assert (tmp_path / "result.json").exists() != killed
    assert train(*run)["epochs"] == 2
