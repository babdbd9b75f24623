"""Laws of neuronal attention: its masks, its streams, its weights."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from nacs.neuronal import (
    NeuronalAttention,
    NeuronalConfig,
    attention,
    neuronal_model,
    presets,
)
from nacs.neuronal.pairs import LARGEST, gather, key_spacing, plain_top_k, top_k
from nacs.neuronal.sparse import MaskedLinear

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
    model = neuronal_model(config)
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
    queries, keys = torch.randn(1, 1, 4, 5), torch.randn(1, 1, 7, 5)
    values = torch.randn(1, 1, 7, 3)
    scores = queries @ keys.mT
    whole = scores.softmax(-1)
    chosen = top_k(queries, keys, None, pairs).chosen
    mass = whole.gather(-1, chosen).sum(-1)
    less = scores.gather(-1, chosen).softmax(-1).unsqueeze(-2) @ gather(values, chosen)
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


def test_quadrature_over_equal_logits_is_an_integral():
    """Of anything irregularly sampled: the mean over time, not over samples."""
    layer = built(solver="uniform", integration="quadrature", top_k=0)
    tokens, times = series()
    _, weights = layer(tokens, query_times=times, need_weights=True)
    spacing = key_spacing(times, None, causal=False)
    wanted = spacing / spacing.sum(-1, keepdim=True)
    assert_close(weights, wanted[:, None, None].expand_as(weights))


def test_the_gate_weighs_the_values():
    layer = built(horizon="gate", integration="gate")
    tokens, times = series()
    plain = NeuronalAttention(replace(layer.config, integration="none"))
    plain.load_state_dict(layer.state_dict())
    _, weights = layer(tokens, query_times=times, need_weights=True)
    heard, same = plain(tokens, query_times=times, need_weights=True)
    assert_close(weights, same)
    assert not torch.allclose(layer(tokens, query_times=times)[0], heard)
    for linear in (layer.pace_of_queries, layer.pace_of_keys):
        torch.nn.init.zeros_(linear.weight)
    torch.nn.init.constant_(layer.pace_of_queries.bias, 50.0)  # the gate is 1
    plain.load_state_dict(layer.state_dict())
    assert_close(
        layer(tokens, query_times=times)[0], plain(tokens, query_times=times)[0]
    )


def test_logits_start_from_the_score_or_from_zero():
    """After no time at all a logit is where it started."""
    tokens, times = series()
    times = torch.zeros_like(times)
    slow = {"horizon": "elapsed", "logit_scale": False}
    score = built(solver="score", logit_scale=False)
    for start, wanted in (("score", score), ("zero", None)):
        layer = built(start=start, top_k=0, **slow)
        found = layer(tokens, query_times=times, need_weights=True)[1]
        if wanted is None:
            assert_close(found, torch.full_like(found, 1 / 7))
            continue
        wanted = NeuronalAttention(replace(score.config, top_k=0))
        wanted.load_state_dict(layer.state_dict(), strict=False)
        assert_close(found, wanted(tokens, need_weights=True)[1])


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_pooling_sees_no_padding(pooling):
    config = presets.tiny()
    attention = replace(config.attention, horizon="elapsed")
    model = neuronal_model(replace(config, pooling=pooling, attention=attention))
    times = torch.rand(2, 6, 1).cumsum(1)
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    padded = times.masked_fill(~keep.unsqueeze(-1), math.nan)
    answers = model(padded, keep)
    assert_close(answers[:1], model(times[:1]))
    assert_close(answers[1:], model(times[1:, :4]))


@pytest.mark.parametrize("masked", [True, False])
def test_selection_in_parts_is_selection_at_once(masked, monkeypatch):
    queries, keys = torch.randn(2, 3, 37, 5), torch.randn(2, 3, 41, 5)
    allowed = torch.rand(2, 1, 37, 41) > 0.9 if masked else None
    scores = queries @ keys.mT
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    wanted = scores.topk(4)
    for most in (1, 100, 10**6):
        monkeypatch.setitem(LARGEST, "cpu", most)
        found = plain_top_k(queries, keys, allowed, 4)
        best = scores.gather(-1, found.chosen).sort(descending=True).values
        assert_close(best, wanted.values)
        if masked:
            assert torch.equal(found.alive.sum(-1), (wanted.values > -math.inf).sum(-1))


@options
@pytest.mark.parametrize("causal", [True, False])
def test_inference_in_parts_is_inference_at_once(change, causal, monkeypatch):
    layer = built(causal=causal, **change)
    tokens, times = series(count=50)
    keep = torch.arange(50).expand(2, 50) < torch.tensor([[50], [31]])
    called = {"query_times": times, "keep": keep, "need_weights": True}
    whole, weights = layer(tokens, **called)
    monkeypatch.setattr(attention, "AT_ONCE", 1)  # 16 queries at a time
    with torch.no_grad():
        parts, same = layer(tokens, **called)
    assert_close(parts, whole)
    assert_close(same, weights)
