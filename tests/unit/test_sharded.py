"""Training under FSDP2: two processes with half of every weight each equal one."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from nacs.errors import UserError
from nacs.runs import load_run, load_tensors, read_json, read_metrics
from nacs.sharded import check_sharding

PROGRAM = """
import os, shutil, socket, sys, torch, traceback
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from dataclasses import replace
from pathlib import Path
from nacs import data, train as training
from nacs.attentive import links, presets
from nacs.recipe import TrainConfig
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
digits = data.load("digits")
digits = replace(digits, train=digits.train.take(range(205)))
median = lambda log_p, u, t: sample(log_p, torch.full_like(u, 0.5), t)
sample, links.sample_log_kernel = links.sample_log_kernel, median

def say(text):
    os.write(1, text.encode() + b"\\n")  # a line at a time, from two processes

def sharding():
    # accelerate takes FSDP on processors for data parallelism; told otherwise, it does
    # there what it does on any other device.
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Propagator"],
    )
    made = Accelerator(fsdp_plugin=plugin)
    made.state.distributed_type, made.state.fsdp_plugin = DistributedType.FSDP, plugin
    return made

def shard(*given):
    model = whole_before(*given)
    rows = model.read_in.ffn.expand.linear.weight.to_local().shape[0]
    say(f"of {rows} rows")
    return model

def train(out, last):
    def epoch(run):
        if run.epoch == last:
            say("killed")
            os._exit(0)
        return one_epoch(run)
    training._Run._one_epoch = epoch
    config = TrainConfig(epochs=2, batch=32, learning_rate=3e-3, patience=5)
    training.train("attentive", presets.tiny(), digits, config, out)

def launch(processes, out, last=2):
    # As a launcher does it, but that the processes are forks: they have imported all.
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(processes)}
        shared["MASTER_PORT"] = str(found.getsockname()[1])
    children = []
    for rank in map(str, range(processes)):
        children.append(os.fork())
        if children[-1]:
            continue
        if processes > 1:
            os.environ.update(shared, RANK=rank, LOCAL_RANK=rank)
            training.Accelerator = sharding
        try:
            train(out, last)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    if any([os.waitpid(child, 0)[1] for child in children]):
        sys.exit(1)

whole_before, training.shard = training.shard, shard
one_epoch = training._Run._one_epoch
one, two, mixed = (Path(sys.argv[1]) / each for each in ("one", "two", "mixed"))
launch(1, one)
launch(2, two, 1)
shutil.copytree(two, mixed)
launch(2, two)
launch(1, mixed)
"""


@pytest.mark.slow
def test_two_processes_with_parts_of_the_weights_equal_one(tmp_path):
    """Also across an interruption: what is saved is whole, and divided again."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=usual | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Of 128, for GEGLU has twice `hidden`; two processes, started twice.
    assert done.stdout.count("of 64 rows") == 4
    assert done.stdout.count("killed") == 2
    check_equal(tmp_path / "one", tmp_path / "two")
    check_equal(tmp_path / "one", tmp_path / "mixed")


def check_equal(one, two):
    first, second = (
        load_tensors(each / "checkpoint" / "training.safetensors")
        for each in (one, two)
    )
    assert first.keys() == second.keys()
    for name in first:
        if name != "figures":  # seconds
            found = second[name].view_as(first[name])
            torch.testing.assert_close(found, first[name], rtol=1e-7, atol=1e-9)
    rows = [read_metrics(each / "metrics.jsonl") for each in (one, two)]
    for mine, other in zip(*rows, strict=True):
        for figure in ("loss", "val_loss", "density"):
            assert other[figure] == pytest.approx(mine[figure], rel=1e-6)
    losses = [read_json(each / "result.json")["test_loss"] for each in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    gain = load_run(two)[0].get_parameter("read_in.ffn.expand.gain")
    assert gain.shape == ()


def pretended(kind, version=2):
    return SimpleNamespace(
        distributed_type=kind,
        is_fsdp2=kind == DistributedType.FSDP and version == 2,
        num_processes=2,
        device=torch.device("cpu"),
    )


def test_what_would_not_be_sharded_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"found 2 process\(es\) on `cpu`"):
        check_sharding(pretended(DistributedType.MULTI_CPU), ema=0.0)
    with pytest.raises(UserError, match="--fsdp_version 2"):
        check_sharding(pretended(DistributedType.FSDP, 1), ema=0.0)
    with pytest.raises(UserError, match="ema=0.9 under FSDP"):
        check_sharding(pretended(DistributedType.FSDP), ema=0.9)
    with pytest.raises(UserError, match="`compile` was never tried under FSDP"):
        check_sharding(pretended(DistributedType.FSDP), ema=0.0, compiles=True)
    check_sharding(pretended(DistributedType.FSDP), ema=0.0)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    check_sharding(pretended(DistributedType.MULTI_CPU), ema=0.9)
