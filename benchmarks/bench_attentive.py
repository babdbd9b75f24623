"""What the folded read-in and dropped modules save at table 4's sizes.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
A case that does not agree with its reference to 1e-10 in float64 is not timed.
"""

import multiprocessing
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nacs.attentive import (
    AttentiveCircuit,
    Modules,
    drop_modules,
    modulated,
    presets,
)
from nacs.attentive.layers import ReadInAttention
from nacs.flops import multiply_adds
from timing import counted, figures, high_water, record

SIZES = {
    "U 320, N 64, d 384": (320, 64, 384, 256),
    "U 1024, N 784, d 512": (1024, 784, 512, 320),
    "U 320, N 784, d 384": (320, 784, 384, 256),
    "U 320, N 4000, d 384": (320, 4000, 384, 256),
}
"""Modules, tokens, width of the states, width of the tokens."""


def read_in_case(sizes, batch, dtype):
    """A read-in, its modules and its tokens; one head of 64 channels, as in table 4."""
    count, tokens, width, token_width = SIZES[sizes]
    torch.manual_seed(0)
    layer = ReadInAttention(
        width, token_width, heads=1, head_width=64, code_features=384
    )
    codes = torch.randn(count, 384).to(dtype).requires_grad_()
    states = torch.randn(count, width).to(dtype).requires_grad_()
    read = torch.randn(batch, tokens, token_width).to(dtype).requires_grad_()
    told = torch.randn(batch, count, width).to(dtype)
    return layer.to(dtype), Modules(None, codes, states), read, told


def step(form, layer, group, tokens, told):
    """Forward, and all gradients from the output's, which is given."""
    layer.form = form
    out = layer(group, tokens)
    leaves = [group.codes, group.states, tokens, *layer.parameters()]
    return out, *torch.autograd.grad(out, leaves, told)


def forward_work(form, sizes, batch):
    """Multiply-adds of the products of a forward pass."""
    layer, group, tokens, _ = read_in_case(sizes, batch, torch.float32)
    layer.form = form
    return counted(lambda: layer(group, tokens))


def peak_bytes(form, sizes, batch):
    """What one step adds to the resident memory of a fresh process, at its peak."""
    torch.set_num_threads(1)
    layer, group, tokens, told = read_in_case(sizes, batch, torch.float32)
    few = Modules(None, torch.randn(8, 384).requires_grad_(), group.states[:8])
    with patch.object(modulated, "FEWEST", 0):  # what any form loads once
        step("folded", layer, few, tokens[:1, :8], told[:1, :8])
    before = high_water()
    step(form, layer, group, tokens, told)
    return high_water() - before


def difference():
    """The largest difference of the two forms and their gradients in float64."""
    exact = read_in_case("U 320, N 64, d 384", 2, torch.float64)
    plain, folded = (step(form, *exact) for form in ("plain", "folded"))
    pairs = zip(plain, folded, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize(
    ("sizes", "batch", "rounds"),
    [("U 320, N 64, d 384", 8, 7), ("U 1024, N 784, d 512", 1, 3)],
)
def test_read_in(sizes, batch, rounds):
    torch.set_num_threads(1)
    error = difference()
    assert error < 1e-10
    case = read_in_case(sizes, batch, torch.float32)
    calls = {form: lambda f=form: step(f, *case) for form in ("plain", "folded")}
    work = {form: 3 * forward_work(form, sizes, batch) for form in calls}
    found = figures(calls, rounds, multiply_adds=work)
    context = multiprocessing.get_context("spawn")
    memory = {}
    for form in calls:
        with context.Pool(1) as pool:
            memory[form] = pool.apply(peak_bytes, (form, sizes, batch))
    found |= {
        "peak_bytes": memory,
        "memory_ratio": memory["plain"] / max(1, memory["folded"]),
        "error": error,
    }
    name = f"read-in, {sizes}, forward and backward, batch {batch}"
    record("attentive", name, found)


class CrossAttention(nn.Module):
    """Latents that read tokens, as in Perceiver, with one head."""

    def __init__(self, width, token_width, channels):
        super().__init__()
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(token_width)
        self.query = nn.Linear(width, channels, bias=False)
        self.key_value = nn.Linear(token_width, 2 * channels, bias=False)
        self.out = nn.Linear(channels, width)

    def forward(self, latents, tokens):
        q = self.query(self.norm(latents)).expand(len(tokens), 1, -1, -1)
        k, v = self.key_value(self.token_norm(tokens)).unsqueeze(1).chunk(2, -1)
        heard = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return latents + self.out(heard)


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        ("U 320, N 64, d 384", 2),
        ("U 320, N 784, d 384", 1),
        ("U 320, N 4000, d 384", 1),
    ],
)
def test_frozen_read_in(sizes, batch):
    """Beside a Perceiver's cross-attention: as many channels, and its default.

    The default of Perceiver IO is one head as wide as the latents. Folded queries are
    as wide as the tokens, whatever the head.
    """
    torch.set_num_threads(1)
    layer, group, tokens, _ = read_in_case(sizes, batch, torch.float32)
    width, token_width = group.states.shape[1], tokens.shape[2]
    wide = CrossAttention(width, token_width, width)
    narrow = CrossAttention(width, token_width, 64)
    with torch.inference_mode():
        wanted = layer(group, tokens)
        layer.fix(group)
        error = (layer(group, tokens) - wanted).abs().max().item()
        assert error < 1e-4  # float32; in float64 the tests say 1e-10
        calls = {
            "perceiver io": lambda: wide(group.states, tokens),
            "perceiver, 64 channels": lambda: narrow(group.states, tokens),
            "frozen": lambda: layer(group, tokens),
        }
        rows, read = group.states.shape[0], tokens.shape[0] * tokens.shape[1]
        work = {
            name: rows * width * inner
            + read * token_width * 2 * inner
            + 2 * rows * read * inner
            + len(tokens) * rows * inner * width
            for name, inner in (("perceiver io", width), ("perceiver, 64 channels", 64))
        }
        work["frozen"] = 2 * rows * read * token_width
        work["frozen"] += len(tokens) * rows * 64 * (token_width + width)
        found = figures(calls, 15, multiply_adds=work) | {"error": error}
    record("attentive", f"frozen read-in, {sizes}, batch {batch}", found)


@pytest.mark.parametrize("batch", [8])
def test_dropped_modules(batch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AttentiveCircuit(presets.tiny_imagenet()).eval()
    kept = {"0 %": 320, "80 %": 64, "90 %": 32}
    smaller = {name: drop_modules(model, count) for name, count in kept.items()}
    images = torch.randn(batch, 3, 64, 64)
    work = {n: multiply_adds(m, images) for n, m in smaller.items()}
    with torch.inference_mode():
        assert torch.equal(smaller["0 %"](images), model(images))
        calls = {name: lambda m=each: m(images) for name, each in smaller.items()}
        found = figures(calls, multiply_adds=work)
    record("attentive", f"modules dropped, batch {batch}", found)
