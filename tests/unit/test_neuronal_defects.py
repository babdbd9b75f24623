"""What is wrong in the released packages, one test each: ours must not repeat it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from nacs.neuronal import NeuronalAttention, NeuronalConfig, euler, exact, presets
from nacs.neuronal.pairs import recall, top_k, top_k_by_blocks
from nacs.neuronal.sparse import MaskedLinear

SMALL = NeuronalConfig(width=16, heads=2, top_k=4)


def gates_of(layer, queries, keys):
    """Drive and rate of all pairs of the first head: (queries, keys) each."""
    backbone = layer.backbone
    return backbone(
        backbone.from_queries(queries)[:, None], backbone.from_keys(keys)[None]
    )


def test_1_drive_and_rate_depend_on_the_pair_and_everything_learns():
    for preset in (SMALL, presets.paper_attention(16, 2)):
        layer = NeuronalAttention(preset)
        drive, rate = gates_of(layer, torch.randn(9, 8), torch.randn(9, 8))
        assert drive.std() > 1e-3
        assert rate.std() > 1e-3
        tokens = torch.randn(2, 12, 16)
        layer(tokens)[0].square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("solver", ["steady", "euler", "exact"])
def test_1_attention_is_not_uniform(solver):
    layer = NeuronalAttention(replace(SMALL, solver=solver, start="zero", top_k=0))
    _, weights = layer(torch.randn(1, 12, 16), need_weights=True)
    assert (weights - 1 / 12).abs().max() > 1e-3


def test_2_queries_rank_keys_differently():
    """With a logit f(q) + g(k) the mixed difference of any four pairs would be 0."""
    layer = NeuronalAttention(SMALL)
    drive, rate = gates_of(layer, torch.randn(20, 8) * 3, torch.randn(9, 8) * 3)
    logits = exact(drive, rate, 1.0)
    mixed = logits - logits[:1] - logits[:, :1] + logits[:1, :1]
    assert mixed[1:, 1:].abs().mean() > 0.01 * logits.std()
    assert len({tuple(row.tolist()) for row in logits.argsort(-1)}) > 1


def test_2_drive_and_rate_are_not_one_number():
    """One scalar feeding both heads would make their gradients parallel."""
    layer = NeuronalAttention(SMALL)
    query, key = torch.randn(1, 8).requires_grad_(), torch.randn(1, 8)
    drive, rate = gates_of(layer, query, key)
    first, second = (
        torch.autograd.grad(x, query, retain_graph=True)[0] for x in (drive, rate)
    )
    assert F.cosine_similarity(first, second).abs() < 0.99


@pytest.mark.parametrize("gate", ["sparse", "circuit"])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.9])
def test_3_the_sensory_gate_is_as_sparse_as_it_says(gate, sparsity):
    config = NeuronalConfig(width=64, gate=gate, sparsity=sparsity)
    layers = NeuronalAttention(config).query.modules()
    masks = [x.mask for x in layers if isinstance(x, MaskedLinear)]
    live = sum(mask.sum().item() for mask in masks) / sum(
        mask.numel() for mask in masks
    )
    # fan-outs are rounded down and lonely neurons tied in: 0.05 at these sizes
    assert live == pytest.approx(1 - sparsity, abs=0.05)


def test_3_the_sensory_gate_has_no_time_in_it():
    """Every token is projected for itself, so all at once is the same as one by one."""
    gate = NeuronalAttention(replace(SMALL, gate="circuit")).query
    tokens = torch.randn(1, 9, 16)
    apart = torch.cat([gate(tokens[:, i : i + 1]) for i in range(9)], 1)
    assert_close(gate(tokens), apart)


def test_4_masked_keys_take_no_part():
    layer = NeuronalAttention(replace(SMALL, top_k=0, start="zero"))
    tokens, keep = torch.randn(2, 9, 16), torch.arange(9).expand(2, 9) < 5
    _, weights = layer(tokens, keep=keep, need_weights=True)
    assert (weights[..., 5:] == 0).all()
    allowed = torch.ones(9, 9, dtype=torch.bool).tril()
    _, weights = layer(tokens, allowed=allowed[None], need_weights=True)
    assert (weights.triu(1) == 0).all()
    assert_close(weights.sum(-1), torch.ones(2, 2, 9))
    _, weights = layer(tokens, keep=keep, allowed=allowed[None], need_weights=True)
    assert (weights.triu(1) == 0).all()
    assert (weights[..., 5:] == 0).all()


@pytest.mark.parametrize("count", [1, 5, 31, 32, 33, 100])
@pytest.mark.parametrize("causal", [True, False])
def test_5_blocks_drop_no_key_and_return_enough(count, causal):
    q, k = torch.randn(2, 3, count, 8), torch.randn(2, 3, count, 8)
    usual = {"block": 16, "causal": causal}
    found = top_k_by_blocks(q, k, None, 8, blocks=2, **usual)
    live = found.alive.sum(-1)
    seen = torch.arange(1, count + 1) if causal else torch.full((count,), count)
    # A query finds 8 keys where its blocks hold as many.
    assert (live <= seen.clamp(max=8)).all()
    assert (live[:, :, 23:] == min(8, count)).all()
    if causal:
        rows = torch.arange(count)[:, None]
        assert (found.chosen <= rows)[found.alive].all()
        assert (live[:, :, :8] == seen[:8]).all()
    # The newest key is found by the query that is nothing but it.
    like = 10 * k
    found = top_k_by_blocks(like, k, None, 8, blocks=2, **usual)
    newest = (found.chosen[:, :, -1] == count - 1) & found.alive[:, :, -1]
    assert newest.any(-1).all()
    mask = torch.ones(1, 1, count, count, dtype=torch.bool).tril() if causal else None
    every = top_k_by_blocks(q, k, None, 8, blocks=9, **usual)
    if count > 8:  # else the exact selection is all keys
        assert recall(every, top_k(q, k, mask, 8)) == 1


def test_5_recall_is_reported_and_beats_chance():
    """Keys of a slow walk, as tokens in time are: 25 of 256 keys are looked at."""
    torch.manual_seed(0)
    k = torch.randn(1, 2, 256, 8).cumsum(2)
    k = F.layer_norm(k, (8,))
    q = k + 0.1 * torch.randn_like(k)
    found = top_k_by_blocks(q, k, None, 8, block=16, blocks=2, causal=False)
    share = recall(found, top_k(q, k, None, 8))
    assert 3 * 16 / 256 < share < 1
    assert share > 0.5
    padding = torch.arange(256).expand(1, 256) < 100
    found = top_k_by_blocks(q, k, padding, 8, block=16, blocks=2, causal=False)
    assert (found.chosen[found.alive] < 100).all()


@pytest.mark.parametrize("seed", range(10))
def test_5_blocks_are_chosen_without_the_future_and_the_padding(seed):
    torch.manual_seed(seed)
    config = replace(SMALL, selection="blocks", block=8, blocks=1)
    tokens = torch.randn(1, 30, 16)
    changed = tokens.clone()
    changed[:, 20:] = 100 * torch.randn(1, 10, 16)
    causal = NeuronalAttention(replace(config, causal=True))
    assert_close(causal(tokens)[0][:, :20], causal(changed)[0][:, :20])
    layer, keep = NeuronalAttention(config), torch.arange(30).expand(1, 30) < 20
    assert_close(
        layer(tokens, keep=keep)[0][:, :20], layer(changed, keep=keep)[0][:, :20]
    )


@pytest.mark.parametrize("horizon", ["gate", "elapsed"])
@pytest.mark.parametrize("solver", ["exact", "euler"])
def test_6_times_of_keys_count_and_only_differences(solver, horizon):
    layer = NeuronalAttention(replace(SMALL, solver=solver, horizon=horizon))
    tokens = torch.randn(1, 9, 16)
    asked, told = torch.rand(1, 9).cumsum(1), torch.rand(1, 9).cumsum(1)
    usual = layer(tokens, tokens, query_times=asked, key_times=told)[0]
    other = layer(tokens, tokens, query_times=asked, key_times=told * 3)[0]
    assert not torch.allclose(usual, other)
    shift = 1e6
    late = layer(tokens, tokens, query_times=asked + shift, key_times=told + shift)[0]
    assert_close(late, usual, atol=1e-8, rtol=1e-6)


def test_7_the_learned_scale_lets_attention_be_sharp():
    pairs = NeuronalConfig(width=16, heads=2, start="zero")
    tokens = 10 * torch.randn(1, 40, 16)
    for scaled in (True, False):
        layer = NeuronalAttention(replace(pairs, logit_scale=scaled))
        for parameter in layer.backbone.parameters():
            torch.nn.init.normal_(parameter, std=3.0)
        if layer.log_scale is not None:
            torch.nn.init.constant_(layer.log_scale, 5.0)
        largest = layer(tokens, need_weights=True)[1].max()
        assert largest > 0.9 if scaled else largest < 0.29


@pytest.mark.parametrize("horizon", ["unit", "elapsed"])
def test_8_euler_neither_overshoots_nor_diverges(horizon):
    assert euler(torch.ones(()), torch.tensor(30.0), 1.0, steps=6).abs() > 100
    config = replace(SMALL, solver="euler", start="zero", horizon=horizon, top_k=0)
    layer = NeuronalAttention(config)
    torch.nn.init.constant_(layer.backbone.rate.bias, 30.0)
    seen = []
    original = layer._solve

    def spy(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    layer._solve = spy
    tokens, times = torch.randn(1, 9, 16), 10 * torch.rand(1, 9).cumsum(1)
    layer(tokens, query_times=times)
    assert (seen[0] >= 0).all()
    assert (seen[0] <= 1 / 29).all()  # φ/ω with φ < 1 and ω > 29
    assert (seen[0] > 0).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 65}, "nearest multiples are 64 and 68"),
        ({"sparsity": 1.0}, "leave no circuit"),
        ({"integration": "quadrature"}, "set top_k=0"),
        ({"window": 5}, "needs causal=True"),
        ({"top_k": -1}, "at least 0"),
        ({"selection": "blocks", "top_k": 0}, "needs 1 to `block`"),
        ({"selection": "blocks", "causal": True, "window": 3}, "knows no `window`"),
    ],
)
def test_bad_layers(change, message):
    with pytest.raises(ValueError, match=message):
        NeuronalConfig(**change)


def test_bad_calls():
    layer = NeuronalAttention(replace(SMALL, horizon="elapsed"))
    tokens = torch.randn(2, 5, 16)
    with pytest.raises(ValueError, match="needs `query_times`"):
        layer(tokens)
    with pytest.raises(ValueError, match=r"expected key_times of shape \(2, 4\)"):
        layer(
            tokens,
            tokens[:, :4],
            query_times=torch.zeros(2, 5),
            key_times=torch.zeros(2, 5),
        )
    with pytest.raises(
        ValueError, match=r"expected query of shape \(batch, tokens, 16\)"
    ):
        layer(tokens[..., :8])
    with pytest.raises(ValueError, match="causal layer"):
        layer.step(tokens[:, 0], torch.zeros(2))
    with pytest.raises(ValueError, match="self-attention"):
        NeuronalAttention(replace(SMALL, selection="blocks"))(tokens, tokens[:, :4])
    with pytest.raises(ValueError, match="there is no variant '3k'"):
        presets.variant("3k", presets.tiny())
