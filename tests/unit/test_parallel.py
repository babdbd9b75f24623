"""Two processes train to the same numbers as one with twice the batch."""

import os
import subprocess
import sys

import pytest
import torch

from nacs.attentive import links
from nacs.runs import load_tensors, read_metrics

PROGRAM = """
import sys, torch
from accelerate import PartialState
from dataclasses import replace
from pathlib import Path
from nacs import data
from nacs.attentive import links, presets
from nacs.recipe import TrainConfig
from nacs.train import train
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
digits = data.load("digits")
# 205 samples in batches of 32: the last batch is ragged, and odd.
digits = replace(digits, train=digits.train.take(range(205)))
sizes = presets.tiny()
# Every process draws links of its own; the median draw is the same for all.
median = lambda log_p, u, t: sample(log_p, torch.full_like(u, 0.5), t)
sample, links.sample_log_kernel = links.sample_log_kernel, median
config = TrainConfig(epochs=2, batch=32, learning_rate=3e-3, ema=0.9)
train("attentive", sizes, digits, config, Path(sys.argv[1]))
state = PartialState()
print(state.process_index + 1, "of", state.num_processes)
"""


def test_two_processes_equal_one_with_twice_the_batch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(links, "sample_log_kernel", links.sample_log_kernel)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "1")])
    exec(PROGRAM, {})
    assert capsys.readouterr().out.endswith("1 of 1\n")
    # With --cpu it would start one process only, unless there is MPI.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_machines", "1", "--num_processes", "2", "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no", "--main_process_port", "0"]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    usual = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    usual |= {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(program), str(tmp_path / "2")],
        capture_output=True,
        text=True,
        timeout=300,
        env=usual,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 of 2" in done.stdout
    one, two = (
        load_tensors(tmp_path / each / "checkpoint" / "training.safetensors")
        for each in "12"
    )
    assert one.keys() == two.keys()
    for name in one:
        if name != "figures":  # seconds
            torch.testing.assert_close(two[name], one[name], rtol=1e-7, atol=1e-9)
    rows = [read_metrics(tmp_path / each / "metrics.jsonl") for each in "12"]
    for first, second in zip(*rows, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-9)
