"""The fused forms agree with the plain ones, in numbers and in gradients."""

import math

import pytest
import torch
from torch.testing import assert_close

from nacs.attentive import Modules, gated
from nacs.attentive.attention import attention_weights
from nacs.attentive.gated import gated_attention
from nacs.attentive.layers import ReadInAttention
from nacs.attentive.links import sample_log_kernel


def plain(queries, keys, values, log_kernel):
    return attention_weights(queries, keys, log_kernel) @ values


def case(masks, dtype=torch.float64):
    """Queries of 5 receivers, keys and values of 7 senders, and a mask."""
    made = torch.randn(3, 4, 7, 2, 8, dtype=dtype).transpose(2, 3)
    mask = torch.randn(*masks, 5, 7)
    leaves = [made[0][:, :, :5], made[1], made[2], mask]
    return [each.detach().requires_grad_() for each in leaves]


def gradients(act, leaves):
    out = act(*leaves)
    return out, *torch.autograd.grad((out * out.cos()).sum(), leaves)


ways = pytest.mark.parametrize("rows", [2, 5, 30], ids=["rows", "heads", "samples"])
"""How much is done at once: 2 rows of a head, a head, 3 samples; the last is ragged."""


@pytest.mark.parametrize("masks", [(), (1,), (4,)])
@ways
def test_a_learned_mask_in_numbers_and_gradients(masks, rows, monkeypatch):
    monkeypatch.setattr(gated, "BLOCK", rows * 7)
    leaves = case(masks)
    fast, reference = gradients(gated_attention, leaves), gradients(plain, leaves)
    assert_close(fast, reference, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("masks", [(1, 7), (4, 1, 7)])
@ways
def test_one_row_may_be_that_of_all_receivers(masks, rows, monkeypatch):
    monkeypatch.setattr(gated, "BLOCK", rows * 7)
    leaves = [*case(())[:3], torch.randn(*masks, requires_grad=True)]
    fast, reference = gradients(gated_attention, leaves), gradients(plain, leaves)
    assert_close(fast, reference, atol=1e-12, rtol=1e-10)


@ways
def test_a_mask_may_lie_transposed(rows, monkeypatch):
    monkeypatch.setattr(gated, "BLOCK", rows * 7)
    mask = torch.randn(4, 7, 5).mT.detach().requires_grad_()
    assert mask.stride(-1) != 1
    leaves = [*case(())[:3], mask]
    fast, reference = gradients(gated_attention, leaves), gradients(plain, leaves)
    assert_close(fast, reference, atol=1e-12, rtol=1e-10)


@ways
def test_a_receiver_without_senders_hears_nothing(rows, monkeypatch):
    monkeypatch.setattr(gated, "BLOCK", rows * 7)
    q, k, v, mask = case((4,))
    with torch.no_grad():
        mask[:, 2] = -math.inf
        mask[1, 3, :4] = -math.inf
    fast, *found = gradients(gated_attention, [q, k, v, mask])
    assert_close(fast, plain(q, k, v, mask), atol=1e-12, rtol=0)
    assert (fast[:, :, 2] == 0).all()
    assert all(each.isfinite().all() for each in found)


@pytest.mark.parametrize("masks", [(), (4,)])
@ways
def test_half_precision_is_near(masks, rows, monkeypatch):
    """Eight bits of every number: 1 % of gradients of a few units."""
    monkeypatch.setattr(gated, "BLOCK", rows * 7)
    low = case(masks, torch.bfloat16)
    with torch.no_grad():
        low[3][..., 2, :] = -math.inf
        low[3][..., 3, :4] = -math.inf
    high = [each.detach().double().requires_grad_() for each in low]
    for fast, exact in zip(
        gradients(gated_attention, low), gradients(plain, high), strict=True
    ):
        off = (fast.double() - exact).norm() / exact.norm()
        assert 0 < off < 0.03


def test_shared_keys_are_those_that_no_code_changes():
    """torch's own attention beside the plain steps, with padding and without."""
    sizes = {"heads": 2, "head_width": 4, "code_features": 3, "bias": True}
    own = ReadInAttention(8, 6, **sizes, form="plain").double()
    shared = ReadInAttention(8, 6, **sizes, form="plain", shared_keys=True).double()
    for layer in (own.key, own.value):
        torch.nn.init.zeros_(layer.gain)
        torch.nn.init.normal_(layer.linear.bias)
    shared.load_state_dict(own.state_dict(), strict=False)
    leaves = [torch.randn(*size) for size in ((5, 3), (5, 8), (3, 4, 6))]
    codes, states, tokens = (each.double().requires_grad_() for each in leaves)
    for keep in (
        None,
        torch.tensor([[True] * 4, [True, False, False, True], [False] * 4]),
    ):
        found = []
        for layer in (own, shared):
            out = layer(Modules(None, codes, states), tokens, keep)
            slopes = torch.autograd.grad(out.cos().sum(), (codes, states, tokens))
            found.append((out, *slopes))
        assert_close(*found, atol=1e-12, rtol=1e-12)


def test_the_compiler_is_told_the_truth():
    leaves = case((1,))
    torch.library.opcheck(torch.ops.nacs.gated, tuple(leaves))


def in_words(log_p, uniform, temperature):
    """log K as the module's docstring has it, step by step."""
    p = log_p.exp()
    logit_p = p.log() - (1 - p).log()
    logit_u = uniform.log() - (1 - uniform).log()
    return -torch.log(1 + torch.exp(-(logit_p + logit_u) / temperature))


@pytest.mark.parametrize("temperature", [0.3, 0.5, 2.0])
def test_sampled_links_in_numbers_and_gradients(temperature):
    log_p = (-0.01 - 3 * torch.rand(6, 6)).requires_grad_()
    uniform = torch.rand(4, 6, 6)
    fast = sample_log_kernel(log_p, uniform, temperature)
    reference = in_words(log_p, uniform, temperature)
    assert_close(fast, reference, atol=1e-12, rtol=1e-10)
    weight = torch.randn(4, 6, 6)
    fast, reference = (
        torch.autograd.grad((each * weight).sum(), log_p) for each in (fast, reference)
    )
    assert_close(fast, reference, atol=1e-10, rtol=1e-10)


def test_draws_at_the_ends_are_finite():
    log_p = torch.tensor([0.0, -1.0, -math.inf]).requires_grad_()
    uniform = torch.tensor([[0.0], [1.0]])
    log_k = sample_log_kernel(log_p, uniform, 0.5)
    (found,) = torch.autograd.grad(log_k.sum(), log_p)
    assert log_k.isfinite().all()
    assert found.isfinite().all()
