"""Weights and slopes of gated attention are torch's, whatever the shape and type."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nacs import native
from nacs.native.gate import gate, plain_gate

pytestmark = pytest.mark.skipif(native.level() == "off", reason="nothing is compiled")


def case(samples, heads, rows, senders, dtype=torch.float64):
    """Scores, what is heard, a mask and its gradient; normalisers, what D subtracts."""
    large = torch.randn(2, samples, heads, rows, senders, dtype=dtype)
    masks = torch.randn(2, samples, rows, senders, dtype=dtype)
    rows = torch.randn(2, samples, rows, heads, dtype=dtype).transpose(-1, -2)
    return [*large, *masks, *rows]


def both(given, shrink=0.3):
    """What the compiled form and the plain one make of the same."""
    ours, plain = ([each.clone() for each in given] for _ in range(2))
    gate(*ours, shrink)
    plain_gate(*plain, shrink)
    return ours, plain


@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (3, 3, 7, 70))),
    threads=st.integers(1, 3),
)
def test_it_is_torchs(sizes, threads):
    torch.set_num_threads(threads)
    given = case(*sizes)
    ours, plain = both(given)
    assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    assert not torch.equal(ours[3], given[3])


def test_it_writes_no_further_than_it_should():
    """Rows that are parts of wider ones, and a mask that all samples share."""
    whole = case(3, 2, 5, 40)
    score, heard, mask, d_mask, *rows = (each.clone() for each in whole)
    parts = [
        each[..., 3:36] for each in (score, heard, mask[:1].expand(3, -1, -1), d_mask)
    ]
    wanted = [each.clone() for each in (*parts, *rows)]
    plain_gate(*wanted, 0.3)
    gate(*parts, *rows, 0.3)
    assert_close(parts, wanted[:4], rtol=1e-10, atol=1e-12)
    for each, before in zip(
        (score, heard, d_mask), (*whole[:2], whole[3]), strict=True
    ):
        assert torch.equal(each[..., :3], before[..., :3])
        assert torch.equal(each[..., 36:], before[..., 36:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_cannot_be_heard_weighs_nothing(dtype):
    score, heard, mask, *others = case(1, 1, 2, 20, dtype)
    mask[0, 0, :7] = -math.inf
    mask[0, 1, 18] = math.nan
    ours, plain = both([score, heard, mask, *others])
    assert (ours[0][0, 0, 0, :7] == 0).all()
    assert ours[0][0, 0, 1].isnan().nonzero().tolist() == [[18]]
    for each, wanted in zip(ours, plain, strict=True):
        assert_close(each, wanted, equal_nan=True)
