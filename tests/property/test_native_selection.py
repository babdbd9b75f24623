"""The compiled selection finds what `plain_top_k` finds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nacs import native
from nacs.native.calls import select
from nacs.neuronal.pairs import plain_top_k, seen, top_k

pytestmark = pytest.mark.skipif(native.level() == "off", reason="nothing is compiled")


def scores_of(queries, keys, mask):
    scores = queries @ keys.mT
    return scores if mask is None else scores.masked_fill(~mask, -math.inf)


def assert_same(queries, keys, pairs, keep=None, causal=False, window=0, first=0):
    """The same scores, each position once, and as many that count."""
    sight = {"causal": causal, "window": window, "first": first}
    mask = seen(queries, keys, None, keep, **sight)
    wanted = plain_top_k(queries, keys, mask, pairs)
    chosen, alive = select(queries, keys, keep, pairs, **sight)
    scores = scores_of(queries, keys, mask)
    best = scores.gather(-1, chosen).masked_fill(~alive, -math.inf)
    plain = scores.gather(-1, wanted.chosen)
    # Either sums a product in its own order; 1e-12 is far below a gap between scores.
    assert_close(best.sort().values, plain.sort().values, rtol=0, atol=1e-12)
    if wanted.alive is not None:
        assert torch.equal(alive.sum(-1), wanted.alive.sum(-1))
    times = torch.zeros_like(scores, dtype=torch.long)
    times.scatter_add_(-1, chosen, alive.long())
    assert times.max() <= 1
    assert mask is None or (times[~mask.expand_as(times)] == 0).all()


sizes = st.integers(1, 64)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    asked=st.integers(1, 40),
    count=st.integers(2, 1200),
    width=sizes,
    pairs=sizes,
    masked=st.booleans(),
    causal=st.booleans(),
    window=st.integers(0, 90),
)
def test_the_same_keys(seed, shape, asked, count, width, pairs, masked, causal, window):
    torch.manual_seed(seed)
    queries = torch.randn(*shape, asked, width)
    keys = torch.randn(*shape, count, width)
    keep = torch.rand(shape[0], count) > torch.rand(shape[0], 1) if masked else None
    first = max(0, count - asked)
    bounds = {"causal": causal, "window": window if causal else 0, "first": first}
    assert_same(queries, keys, min(pairs, count - 1), keep, **bounds)


@pytest.mark.parametrize("window", [0, 1, 5, 700])
@pytest.mark.parametrize("causal", [True, False])
def test_long_series(causal, window):
    """Longer than the stretch of keys that is worked on at a time."""
    queries, keys = torch.randn(2, 1, 2, 1700, 16)
    keep = torch.rand(1, 1700) > 0.2
    for mask in (None, keep):
        assert_same(queries, keys, 8, mask, causal, window if causal else 0)


def test_best_keys_that_come_last_or_first():
    queries = torch.ones(1, 1, 5, 1)
    for direction in (1, -1):
        keys = direction * torch.arange(2000.0).view(1, 1, -1, 1)
        assert_same(queries, keys, 9)


def test_equal_scores_give_different_keys():
    queries, keys = torch.zeros(1, 2, 20, 4), torch.randn(1, 2, 1500, 4)
    assert_same(queries, keys, 7)
    assert_same(queries, keys, 7, causal=True)


def test_numbers_need_not_lie_side_by_side():
    queries, keys = torch.randn(2, 30, 3, 16), torch.randn(2, 90, 3, 32)
    assert_same(queries.transpose(1, 2), keys[..., ::2].transpose(1, 2), 8)
    assert_same(queries.transpose(1, 2), keys[..., :16].transpose(1, 2), 8)
    row = torch.randn(1, 1, 30, 16)
    assert_same(row.expand(2, 3, -1, -1), torch.randn(2, 3, 50, 16), 8)


def test_nobody_to_see():
    queries, keys = torch.randn(2, 2, 2, 20, 4)
    keep = torch.zeros(2, 20, dtype=torch.bool)
    keep[1, 13] = True
    chosen, alive = select(queries, keys, keep, 3, False, 0, 0)
    assert alive.sum((1, 2, 3)).tolist() == [0, 40]
    assert (chosen[alive] == 13).all()
    assert ((chosen >= 0) & (chosen < 20)).all()


@pytest.mark.parametrize("count", [20, 1300])
def test_nan_is_chosen_first_and_infinity_is_a_score(count):
    """As in torch.topk: whatever is not a number must show in the output."""
    queries, keys = torch.randn(1, 1, 9, 4), torch.randn(1, 1, count, 4)
    keys[0, 0, 17] = math.nan
    keys[0, 0, 3] = 0
    keys[0, 0, 3, 0] = math.inf
    queries[..., 0] = queries[..., 0].abs() + 0.1
    found = top_k(queries, keys, None, 2)
    assert (found.chosen.sort().values == torch.tensor([3, 17])).all()
    queries[0, 0, 2] = math.nan
    assert found.chosen.shape == top_k(queries, keys, None, 2).chosen.shape
    keep = torch.arange(count)[None] != 17
    found = top_k(queries, keys, None, 2, keep=keep)
    assert (found.chosen[found.alive] != 17).all()
    queries = -queries  # key 3 scores -inf: no better than one that is out of sight
    found = top_k(queries[:, :, :2], keys[:, :, :5], None, 4, keep=keep[:, :5])
    assert (found.chosen != 3).all()


def test_as_many_pairs_as_keys_is_all_keys():
    queries, keys = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    for pairs in (0, 5, 9):
        found = top_k(queries, keys, None, pairs, causal=True)
        assert found.chosen is None
        assert torch.equal(found.alive, torch.ones(1, 1, 5, 5).tril().bool())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_share_the_work(dtype):
    queries, keys = torch.randn(2, 3, 4, 50, 16, dtype=dtype)
    alone = top_k(queries, keys, None, 8).chosen
    torch.set_num_threads(3)
    assert torch.equal(top_k(queries, keys, None, 8).chosen, alone)


def test_selection_compiles_as_one_graph():
    queries, keys = torch.randn(2, 1, 2, 40, 8)

    def chosen(q, k):
        return top_k(q, k, None, 5, causal=True)

    compiled = torch.compile(chosen, backend="aot_eager", fullgraph=True)
    for found, wanted in zip(
        compiled(queries, keys), chosen(queries, keys), strict=True
    ):
        assert torch.equal(found, wanted)
    torch.library.opcheck(select.overload, (queries, keys, None, 5, True, 0, 0))


def test_torch_does_it_where_there_is_no_compiled_code():
    q, k = torch.randn(2, 1, 1, 40, 8)
    half = top_k(q.bfloat16(), k.bfloat16(), None, 5).chosen
    assert half.shape == (1, 1, 40, 5)
    away = top_k(q.to("meta"), k.to("meta"), None, 5, causal=True)
    assert away.chosen.device.type == "meta"
    allowed = torch.rand(1, 1, 40, 40) > 0.5
    found = top_k(q, k, allowed, 5)
    assert allowed.expand(1, 1, 40, 40).gather(-1, found.chosen)[found.alive].all()
