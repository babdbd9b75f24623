"""Laws of neuronal attention: its ODE, its wiring, its masks, its streams."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ncps.wirings import AutoNCP
from scipy.integrate import solve_ivp
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from nacs.neuronal import (
    NeuronalAttention,
    NeuronalConfig,
    NeuronalModel,
    euler,
    exact,
    ncp,
    presets,
    steady,
)
from nacs.neuronal.attention import key_spacing
from nacs.neuronal.pairs import gather, top_k
from nacs.neuronal.sparse import Backbone, MaskedLinear, SensoryGate

numbers = st.floats(-10, 10).map(torch.tensor)
rates = st.floats(1e-6, 10).map(torch.tensor)
spans = st.floats(0, 5).map(torch.tensor)

SMALL = NeuronalConfig(width=8, heads=2, top_k=3, inter=8, command=4)
SOLVERS = ("exact", "euler", "steady", "score", "uniform")
OPTIONS = {
    "default": {},
    "zero start": {"start": "zero"},
    "euler": {"solver": "euler"},
    "steady": {"solver": "steady"},
    "score": {"solver": "score"},
    "gate": {"horizon": "gate", "integration": "gate"},
    "elapsed": {"horizon": "elapsed"},
    "quadrature": {"integration": "quadrature", "top_k": 0},
    "circuit": {"gate": "circuit"},
    "dense": {"gate": "dense", "sparsity": 0.0},
    "all pairs": {"top_k": 0},
}
options = pytest.mark.parametrize("change", OPTIONS.values(), ids=OPTIONS.keys())


def built(**changes):
    layer = NeuronalAttention(replace(SMALL, **changes))
    for parameter in layer.parameters():  # no start value may hide a mistake
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def series(batch=2, count=7, width=8):
    return torch.randn(batch, count, width), torch.rand(batch, count).cumsum(1)


@given(drive=numbers, rate=rates, first=spans, second=spans, start=numbers)
def test_exact_is_a_flow(drive, rate, first, second, start):
    """Waiting twice equals waiting once for as long."""
    halfway = exact(drive, rate, first, start)
    twice = exact(drive, rate, second, halfway)
    assert_close(twice, exact(drive, rate, first + second, start))


@given(drive=numbers, rate=rates, start=numbers, elapsed=spans)
def test_exact_nears_the_equilibrium_at_its_rate(drive, rate, start, elapsed):
    rest = steady(drive, rate, elapsed)
    gap = (exact(drive, rate, elapsed, start) - rest).abs()
    assert_close(
        gap, (start - rest).abs() * torch.exp(-rate * elapsed), rtol=1e-6, atol=1e-8
    )
    assert_close(exact(drive, rate, 50 / rate, start), rest)


@given(drive=st.floats(0, 10).map(torch.tensor), rate=rates, elapsed=spans)
def test_exact_from_zero_stays_between_zero_and_the_equilibrium(drive, rate, elapsed):
    logit = exact(drive, rate, elapsed)
    assert 0 <= logit <= drive / rate * (1 + 1e-12)


@given(drive=numbers, rate=st.floats(0.01, 3).map(torch.tensor), start=numbers)
def test_exact_equals_an_ode_solver(drive, rate, start):
    """To 1e-6, at the solver's own tolerance of 1e-9."""
    found = solve_ivp(
        lambda _, a: drive.item() - rate.item() * a,
        (0, 2),
        [start.item()],
        rtol=1e-9,
        atol=1e-9,
    ).y[0, -1]
    assert exact(drive, rate, 2.0, start).item() == pytest.approx(found, abs=1e-6)


@given(drive=numbers, rate=rates, start=numbers, elapsed=spans, steps=st.integers(1, 9))
def test_euler_has_the_closed_form_of_its_recursion(drive, rate, start, elapsed, steps):
    rest = drive / rate
    wanted = rest + (start - rest) * (1 - elapsed / steps * rate) ** steps
    assert_close(
        euler(drive, rate, elapsed, start, steps=steps), wanted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("rate", [0.3, 1.0, 3.0])
def test_euler_converges_at_first_order(rate):
    drive, rate, elapsed = map(torch.tensor, (1.0, rate, 1.0))
    truth = exact(drive, rate, elapsed)
    errors = [
        (euler(drive, rate, elapsed, steps=n) - truth).abs() for n in (64, 128, 256)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.05)


def test_exact_keeps_precision_when_decay_is_slow():
    """At rate · elapsed = 1e-8 a float32 `1 - exp(-x)` rounds to zero."""
    drive, rate, elapsed = torch.tensor([1.0, 1e-6, 1e-2], dtype=torch.float32)
    assert_close(exact(drive, rate, elapsed), elapsed)


@pytest.mark.parametrize("solver", [exact, euler])
def test_solver_gradients(solver):
    inputs = [torch.rand(3, 4).add(0.1).requires_grad_() for _ in range(4)]
    assert torch.autograd.gradcheck(solver, inputs)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_wiring_is_that_of_autoncp(sparsity):
    theirs = AutoNCP(50, 10, sparsity_level=sparsity, seed=7)
    theirs.build(12)
    ours = ncp(12, 24, 16, 10, sparsity=sparsity, seed=7)
    among, heard = theirs.adjacency_matrix, theirs.sensory_adjacency_matrix
    assert heard is not None
    assert np.array_equal(ours.sensory, heard[:, 26:])
    assert np.array_equal(ours.inter, among[26:, 10:26])
    assert np.array_equal(ours.command, among[10:26, 10:26])
    assert np.array_equal(ours.motor, among[10:26, :10])
    assert not heard[:, :26].any()
    assert ours.synapses == theirs.synapse_count + theirs.sensory_synapse_count


def test_wiring_at_the_ends_of_sparsity():
    dense = ncp(6, 8, 4, 2, sparsity=0.0, seed=1)
    assert all(part.all() for part in (dense.sensory, dense.inter, dense.motor))
    sparse = ncp(6, 8, 4, 2, sparsity=0.99, seed=1)
    assert (sparse.motor != 0).any(0).all()
    assert (sparse.inter != 0).any(0).all()


def reach(function, inputs):
    """True where an input reaches an output: |Jacobian| > 0, as inputs × outputs."""
    return (jacobian(function, inputs) != 0).T


def test_no_synapse_no_influence():
    wiring = ncp(10, 12, 6, 4, sparsity=0.8, seed=3)
    masks = [torch.from_numpy(part != 0) for part in (wiring.sensory, wiring.inter)]
    layer = MaskedLinear(wiring.sensory)
    torch.nn.init.normal_(layer.weight)
    assert torch.equal(reach(layer, torch.randn(10)), masks[0])
    gate = SensoryGate(wiring)
    path = masks[0].int() @ masks[1].int() @ torch.from_numpy(wiring.motor != 0).int()
    assert not (path > 0).all()
    assert torch.equal(reach(gate, torch.randn(10)), path > 0)


def test_the_backbone_reaches_its_motors_by_the_wiring_alone():
    wiring = ncp(10, 12, 6, 2, sparsity=0.9, seed=3)
    backbone = Backbone(wiring)
    masks = [torch.from_numpy(p != 0).int() for p in (wiring.sensory, wiring.inter)]
    recurrent = torch.from_numpy(wiring.command != 0).int()
    commands = masks[0] @ masks[1]
    commands = commands + commands @ recurrent
    path = commands @ torch.from_numpy(wiring.motor != 0).int()

    def outputs(pair):
        drive, rate = backbone(
            backbone.from_queries(pair[:5]), backbone.from_keys(pair[5:])
        )
        return torch.stack([drive, rate])

    assert (path == 0).any()
    assert torch.equal(reach(outputs, torch.randn(10)), path > 0)


def test_weights_removed_by_the_wiring_stay_removed():
    layer = built()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=0.1)
    layer(series()[0])[0].square().sum().backward()
    optimiser.step()
    for part in layer.modules():
        if isinstance(part, MaskedLinear):
            assert (part.synapses[~part.mask] == 0).all()
            assert (part.synapses[part.mask] != 0).all()


@options
def test_padding_changes_nothing(change):
    layer = built(**change)
    tokens, times = series()
    keep = torch.ones(2, 10, dtype=torch.bool)
    keep[:, 7:] = False
    longer = torch.cat([tokens, torch.full((2, 3, 8), 9.0)], 1)
    later = torch.cat([times, torch.full((2, 3), 99.0)], 1)
    padded = layer(longer, query_times=later, keep=keep)[0][:, :7]
    assert_close(padded, layer(tokens, query_times=times)[0])


def test_a_row_with_nothing_to_hear_is_not_nan():
    layer = built()
    tokens, _ = series()
    tokens.requires_grad_()
    keep = torch.tensor([[True] * 7, [False] * 7])
    out, weights = layer(tokens, keep=keep, need_weights=True)
    out.sum().backward()
    assert_close(out[1], layer.out.bias.expand(7, 8))
    assert (weights[1] == 0).all()
    assert torch.isfinite(tokens.grad).all()


@options
def test_a_causal_query_hears_no_later_key(change):
    layer = built(causal=True, **change)
    tokens, times = series(batch=1)
    found = jacobian(lambda x: layer(x, query_times=times)[0], tokens)[0, :, :, 0]
    heard = found.abs().amax((1, 3))
    assert (heard.triu(1) == 0).all()
    assert (heard.diagonal() > 0).all()


@options
@pytest.mark.parametrize("window", [0, 4])
def test_a_stream_is_the_whole_causal_sequence(change, window):
    layer = built(causal=True, window=window, **change)
    tokens, times = series(count=11)
    whole, _ = layer(tokens, query_times=times)
    state = None
    for place in range(11):
        out, state = layer.step(tokens[:, place], times[:, place], state)
        assert_close(out, whole[:, place], atol=1e-12, rtol=0)
    assert state.keys.shape[2] == (window or 11)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_model_streams(pooling):
    config = presets.tiny()
    attention = replace(config.attention, causal=True, window=5, horizon="elapsed")
    tokenizer = replace(config.tokenizer, features=2)
    config = replace(
        config, attention=attention, tokenizer=tokenizer, layers=3, pooling=pooling
    )
    model = NeuronalModel(config)
    observed = torch.randn(2, 9, 3)
    observed[..., 0] = torch.rand(2, 9).cumsum(1)
    observed[0, 3, 1] = math.nan
    state = None
    for place in range(9):
        answer, state = model.step(observed[:, place, 1:], observed[:, place, 0], state)
        assert_close(answer, model(observed[:, : place + 1]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"quadrature"}))
def test_keys_may_be_permuted_with_their_times_and_mask(name):
    """Except under a quadrature, which needs its keys in the order of time."""
    layer = built(**OPTIONS[name])
    queries, asked = series(count=4)
    keys, times = series()
    keep = torch.rand(2, 7) > 0.3
    order = torch.randperm(7)
    plain, mixed = (
        layer(
            queries,
            keys[:, at],
            query_times=asked,
            key_times=times[:, at],
            keep=keep[:, at],
        )[0]
        for at in (torch.arange(7), order)
    )
    assert_close(plain, mixed)


def test_with_one_token_dynamics_do_not_matter():
    token, time = series(count=1)
    first = built()
    for change in OPTIONS.values():
        if change.get("integration") == "gate" or "gate" in change:
            continue  # a gate weighs even a single value, or projects it otherwise
        other = built(**change)
        other.value, other.out = first.value, first.out
        assert_close(
            other(token, query_times=time)[0], first(token, query_times=time)[0]
        )


@given(seed=st.integers(0, 200), pairs=st.integers(1, 6))
def test_leaving_keys_out_moves_the_output_by_twice_their_mass(seed, pairs):
    """‖Δ‖ ≤ 2 (1 − m) max‖v‖, m the mass of the kept keys among all."""
    torch.manual_seed(seed)
    scores, values = torch.randn(1, 1, 4, 7), torch.randn(1, 1, 7, 3)
    whole = scores.softmax(-1)
    kept = top_k(scores, None, pairs)
    mass = whole.gather(-1, kept.chosen).sum(-1)
    less = kept.scores.softmax(-1).unsqueeze(-2) @ gather(values, kept.chosen)
    moved = (less.squeeze(-2) - whole @ values).norm(dim=-1)
    assert (moved <= 2 * (1 - mass) * values.norm(dim=-1).max() + 1e-12).all()


@options
def test_weights_are_a_distribution_that_gives_the_output(change):
    layer = built(**change)
    tokens, times = series()
    out, weights = layer(tokens, query_times=times, need_weights=True)
    assert_close(weights.sum(-1), torch.ones(2, 2, 7))
    if change.get("top_k", 3):
        assert ((weights > 0).sum(-1) == 3).all()
    if change.get("integration") != "gate":
        values = layer.value(tokens).unflatten(-1, (2, 4)).transpose(1, 2)
        heard = (weights @ values).transpose(1, 2).flatten(-2)
        assert_close(out, layer.out(heard))


def test_gradients_of_a_whole_layer():
    layer = built(horizon="elapsed")
    tokens, times = series(batch=1, count=4)
    tokens.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, query_times=times)[0], tokens)


def test_spacing_is_the_trapezoid_rule():
    times = torch.tensor([[0.0, 1.0, 3.0, 3.5, 7.0]])
    values = torch.randn(1, 5)
    assert_close(
        (key_spacing(times, None, causal=False) * values).sum(),
        torch.trapezoid(values, times).squeeze(),
    )
    keep = torch.tensor([[True, True, True, True, False]])
    assert_close(
        (key_spacing(times, keep, causal=False) * values)[:, :4].sum(),
        torch.trapezoid(values[:, :4], times[:, :4]).squeeze(),
    )
    later = key_spacing(times, None, causal=True)
    assert_close(later[0, 1:], torch.tensor([1.0, 2.0, 0.5, 3.5]))
