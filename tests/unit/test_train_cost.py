"""What training saves changes no number, or as little as it says."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch._dynamo import utils as dynamo
from torch.testing import assert_close

import nacs.train as train_module
from nacs import data
from nacs.attentive import AttentiveCircuit, presets
from nacs.attentive.priors import graphon, match, matching_of
from nacs.compiled import compile_parts
from nacs.errors import UserError
from nacs.recipe import TrainConfig
from nacs.runs import load_tensors
from nacs.train import train


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def digits():
    whole = data.load("digits")
    return replace(whole, train=whole.train.take(range(0, len(whole.train), 8)))


SIZES = replace(presets.tiny(), prior="ring-of-cliques")


def trained(out, digits, **changes):
    usual = {"epochs": 3, "batch": 32, "learning_rate": 3e-3, "signature_rate": 30.0}
    train("attentive", SIZES, digits, TrainConfig(**(usual | changes)), out)
    return load_tensors(out / "checkpoint" / "model.safetensors")


def same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one)


def test_matching_now_and_then_goes_on_where_a_run_stopped(
    tmp_path, digits, monkeypatch
):
    """A period that no epoch divides: the second epoch starts within it."""
    matched = []

    def counted(*arguments, **options):
        matched.append(True)
        return match(*arguments, **options)

    monkeypatch.setattr("nacs.attentive.model.match", counted)
    whole = trained(tmp_path / "whole", digits, match_every=4)
    steps = 3 * -(-len(digits.train) // 32)
    assert len(matched) == -(-steps // 4) + 3  # and once an epoch for the metrics

    real, cut = train_module.save_tensors, tmp_path / "cut"

    def save_and_stop(*arguments):
        real(*arguments)
        raise StopError

    once = len(matched)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_tensors", save_and_stop)
        with pytest.raises(StopError):
            trained(cut, digits, match_every=4)
    assert once < len(matched) < 2 * once
    assert same(whole, trained(cut, digits, match_every=4))
    assert len(matched) == 2 * once


class StopError(Exception):
    """What ends a run after its first checkpoint."""


def test_labels_stay_unless_matched_again():
    model = AttentiveCircuit(SIZES)
    model.labels.copy_(torch.randperm(16))
    before = model.labels.clone()
    kept = model.regulariser(rematch=False)
    assert torch.equal(model.labels, before)
    assert model.regulariser() < kept


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("erdos-renyi", "none"),
        ("scale-free", "sorted"),
        ("planted-partition", "assigned"),
        ("ring-of-cliques", "assigned"),
    ],
)
def test_how_a_prior_is_matched(name, how):
    prior = graphon(name, 60).float()
    assert matching_of(prior) == how
    assert AttentiveCircuit(replace(SIZES, prior=name)).matching == how


def test_links_that_are_not_finite_leave_the_labels():
    prior, start = graphon("ring-of-cliques", 12), torch.randperm(12)
    assert torch.equal(match(prior * torch.nan, prior, start=start), start)


@pytest.mark.parametrize("prior", ["ring-of-cliques", "scale-free"])
def test_a_loss_that_breaks_late_names_its_batch(tmp_path, digits, prior):
    inputs = digits.train.inputs.astype(np.float32)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs[order[40]] = torch.nan  # of the second batch
    broken = replace(digits, train=replace(digits.train, inputs=inputs))
    config = TrainConfig(epochs=1, batch=32)
    sizes = replace(SIZES, prior=prior)
    with pytest.raises(UserError, match="is nan in epoch 1, batch 2;"):
        train("attentive", sizes, broken, config, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


# Dynamo asks tensors that are no leaves whether they have gradients.
quiet = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")


@pytest.fixture
def _traced(monkeypatch):
    """Everything but the C++ compiler, which takes a minute."""
    torch._dynamo.reset()
    dynamo.counters.clear()
    traced = partial(compile_parts, backend="aot_eager")
    monkeypatch.setattr(train_module, "compile_parts", traced)
    yield
    torch._dynamo.reset()


@quiet
@pytest.mark.usefixtures("_traced")
def test_layers_compile_once_and_keep_their_names(tmp_path, digits):
    """A ragged last batch, two layers, two epochs, evaluation: one compilation."""
    assert len(digits.train) % 32 > 1
    found = trained(tmp_path / "compiled", digits, compile=True, epochs=2)
    assert dynamo.counters["stats"]["unique_graphs"] == 1
    assert not dynamo.counters["graph_break"]
    plain = trained(tmp_path / "plain", digits, epochs=2)
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        assert_close(found[name], value, atol=1e-2, rtol=0)


@quiet
@pytest.mark.usefixtures("_traced")
def test_compiled_layers_give_the_same_numbers():
    torch.set_default_dtype(torch.float64)
    eager, compiled = AttentiveCircuit(SIZES), AttentiveCircuit(SIZES)
    compiled.load_state_dict(eager.state_dict())
    compile_parts(compiled, backend="aot_eager")
    pictures = torch.randn(3, 1, 8, 8)
    for model in (eager, compiled):
        torch.manual_seed(1)
        model(pictures).square().sum().backward()
    for one, two in zip(eager.parameters(), compiled.parameters(), strict=True):
        if one.grad is not None:
            assert_close(one.grad, two.grad, atol=1e-10, rtol=1e-8)
