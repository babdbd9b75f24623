"""Attention along edges is masked attention, compiled or not."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nacs.attentive import sparse
from nacs.attentive.links import Links
from nacs.attentive.sparse import edge_attention, edge_list, plain_edge_attention
from nacs.native import level

FORMS = [
    pytest.param(plain_edge_attention, id="plain"),
    pytest.param(
        edge_attention,
        id="compiled",
        marks=pytest.mark.skipif(level() == "off", reason="nothing is compiled"),
    ),
]


def case(receivers, senders, width, *, batch=2, heads=3, density=0.4, scale=1.0):
    q = (scale * torch.randn(batch, receivers, heads, width)).transpose(1, 2)
    k, v = torch.randn(2, batch, senders, heads, width).transpose(2, 3)
    mask = torch.rand(receivers, senders) < density
    return [each.detach().requires_grad_() for each in (q, k, v)], mask


def dense(q, k, v, mask, bias):
    """Masked attention in plain steps, and zeros for who hears nobody."""
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias.unsqueeze(1)
    logits = logits.masked_fill(~mask, -math.inf)
    silent = (logits == -math.inf).all(-1, keepdim=True)
    weights = logits.masked_fill(silent, 0).softmax(-1).masked_fill(silent, 0)
    return weights @ v


def on_edges(bias, edges):
    return bias[:, edges.receivers, edges.senders.long()]


@pytest.mark.parametrize("form", FORMS)
@given(
    receivers=st.integers(1, 40),
    senders=st.integers(1, 40),
    width=st.sampled_from([1, 3, 8, 16, 20, 32, 64, 80]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    biased=st.sampled_from(["none", "shared", "own"]),
    scale=st.sampled_from([1.0, 60.0]),
    tile=st.sampled_from([7, 1024]),
    seed=st.integers(0, 99),
)
def test_edges_are_masked_attention(
    form, receivers, senders, width, density, biased, scale, tile, seed
):
    torch.manual_seed(seed)
    rows, mask = case(receivers, senders, width, density=density, scale=scale)
    before, sparse.TILE = sparse.TILE, tile
    edges = edge_list(mask)
    sparse.TILE = before
    bias, listed, leaves = None, None, rows
    if biased != "none":
        count = 1 if biased == "shared" else 2
        bias = torch.randn(count, receivers, senders).requires_grad_()
        listed, leaves = on_edges(bias, edges), [*rows, bias]
    found, wanted = form(*rows, edges, listed), dense(*rows, mask, bias)
    # Logits of 60 deviations lose some digits to their size.
    close = {"rtol": 1e-9, "atol": 1e-9 if scale > 1 else 1e-12}
    torch.testing.assert_close(found, wanted, **close)
    weigh = torch.randn_like(wanted)
    pairs = zip(
        torch.autograd.grad((found * weigh).sum(), leaves, allow_unused=True),
        torch.autograd.grad((wanted * weigh).sum(), leaves, allow_unused=True),
        strict=True,
    )
    for got, asked in pairs:
        zero = torch.zeros(()) if asked is None else torch.zeros_like(asked)
        torch.testing.assert_close(
            zero if got is None else got, zero if asked is None else asked, **close
        )


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    (q, k, v), mask = case(5, 6, 4, batch=1, heads=1)
    edges = edge_list(mask)
    bias = torch.randn(1, len(edges.senders)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *each: form(*each[:3], edges, each[3]), (q, k, v, bias)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shift", [-2000.0, 2000.0])
def test_large_logits_do_not_overflow(form, shift):
    rows, mask = case(12, 12, 16, density=0.5)
    edges = edge_list(mask)
    nothing = torch.zeros(1, len(edges.senders))
    torch.testing.assert_close(
        form(*rows, edges, nothing + shift), form(*rows, edges, nothing)
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_edge_that_is_impossible_is_no_edge(form):
    rows, mask = case(9, 9, 16, density=0.7)
    edges = edge_list(mask)
    bias = torch.zeros(1, len(edges.senders))
    bias[0, ::3] = -math.inf
    kept = torch.zeros_like(mask)
    alive = bias[0] == 0
    kept[edges.receivers[alive], edges.senders[alive].long()] = True
    torch.testing.assert_close(
        form(*rows, edges, bias), form(*rows, edge_list(kept), None)
    )


@pytest.mark.parametrize("form", FORMS)
def test_who_hears_only_impossible_edges_hears_nothing(form):
    (q, k, v), mask = case(6, 6, 16, density=1.0)
    edges = edge_list(mask)
    bias = torch.zeros(1, len(edges.senders))
    bias[0, edges.receivers == 2] = -math.inf
    bias.requires_grad_()
    out = form(q, k, v, edges, bias)
    assert torch.equal(out[:, :, 2], torch.zeros_like(out[:, :, 2]))
    gradients = torch.autograd.grad(out.sum(), (q, k, v, bias))
    assert all(each.isfinite().all() for each in gradients)
    assert not gradients[0][:, :, 2].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [20, 64])
def test_many_receivers_some_silent_some_loud(form, width):
    """More than are worked on at a time; logits too large for one of them alone."""
    rows, mask = case(600, 300, width, batch=1, heads=2, density=0.05)
    mask[[0, 255, 256, 599]] = False
    edges = edge_list(mask)
    bias = torch.randn(1, 600, 300)
    bias[0, 300] += 2000
    found = form(*rows, edges, on_edges(bias, edges))
    wanted = dense(*rows, mask, bias)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    weigh = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(x, rows, weigh) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_receiver_that_is_not_a_number_spoils_no_other(form):
    (q, k, v), mask = case(30, 40, 64, density=0.3)
    edges = edge_list(mask)
    before = form(q, k, v, edges)
    asked = q.detach().clone()
    asked[:, :, 7] = math.nan
    after = form(asked, k, v, edges)
    assert mask[7].any()
    assert after[:, :, 7].isnan().all()
    others = torch.arange(30) != 7
    torch.testing.assert_close(after[:, :, others], before[:, :, others])


@pytest.mark.skipif(level() == "off", reason="nothing is compiled")
def test_nothing_is_left_of_the_call_before():
    """The scratch is kept between calls; what it held must not matter."""
    for width in (64, 20):
        (q, k, v), mask = case(30, 30, width, batch=1)
        found = edge_attention(q, k, v, edge_list(mask))
        torch.testing.assert_close(found, dense(q, k, v, mask, None))
        nan = torch.full((1, 3, 60, 64), torch.nan).requires_grad_()
        whole = edge_list(torch.ones(60, 60, dtype=torch.bool))
        edge_attention(nan, nan, nan, whole).sum().backward()
        again = edge_attention(q, k, v, edge_list(mask))
        assert torch.equal(again, found)
        gradient = torch.autograd.grad(again.sum(), q)[0]
        assert gradient.isfinite().all()


@pytest.mark.skipif(level() == "off", reason="nothing is compiled")
def test_float32_is_as_exact_as_torch():
    rows, mask = case(70, 70, 64, density=0.3)
    exact = dense(*rows, mask, None)
    low = [each.float() for each in rows]
    found = edge_attention(*low, edge_list(mask))
    bias = torch.zeros(mask.shape, dtype=torch.float32).masked_fill(~mask, -math.inf)
    usual = F.scaled_dot_product_attention(*low, bias)
    off, theirs = (each.double() - exact for each in (found, usual))
    assert off.abs().max() < 2 * theirs.abs().max() + 1e-7


def test_edges_are_sorted_by_tile_then_receiver():
    mask = torch.rand(30, 50) < 0.6
    before, sparse.TILE = sparse.TILE, 20
    edges = edge_list(mask)
    sparse.TILE = before
    assert len(edges.starts) == 3 * 30 + 1  # three tiles of 17 senders
    place = edges.senders // 17 * 30 + edges.receivers
    assert (place.diff() >= 0).all()
    assert edges.starts[-1] == mask.sum()
    for row in (0, 29, 30, 89):
        here = place[edges.starts[row] : edges.starts[row + 1]]
        assert (here == row).all()
    back = torch.zeros_like(mask)
    back[edges.receivers, edges.senders.long()] = True
    assert torch.equal(back, mask)


def test_the_list_grows_with_edges_not_with_pairs():
    """A tile for every eight edges of a receiver, not for so many senders."""
    for degree, tiles in ((2, 1), (8, 1), (40, 5)):
        mask = torch.zeros(700, 3000, dtype=torch.bool)
        mask[:, :degree] = True
        assert len(edge_list(mask).starts) == tiles * 700 + 1


@pytest.mark.parametrize(("density", "truncation"), [(0.002, None), (0.3, 1.1)])
def test_links_of_edges_are_those_of_all_pairs(density, truncation):
    """So few edges that no other pair gets a distance, and many."""
    links = Links(0.7, learnable_bandwidth=True, truncation=truncation).eval()
    mask = torch.rand(90, 120) < density
    mask[3, 5] = True
    edges = edge_list(mask)
    few = 3 * 6 * len(edges.receivers) < mask.numel()
    assert few == (density < 0.1)
    found = []
    receivers, senders = torch.randn(90, 6), torch.randn(120, 6)
    ends = [receivers.requires_grad_(), senders.requires_grad_()]
    for log_p in (
        links.on_edges(receivers, senders, 1, edges),
        links.log_probabilities(receivers, senders)[
            edges.receivers, edges.senders.long()
        ].unsqueeze(0),
    ):
        near = log_p[log_p.isfinite()]
        slopes = torch.autograd.grad(near.square().sum(), [*ends, links.bandwidth])
        found.append([log_p, *slopes])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-12, rtol=1e-10)
