"""What the folded read-in and dropped modules save at table 4's sizes.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
A case that does not agree with its reference to 1e-10 in float64 is not timed.
"""

import multiprocessing

import pytest
import torch

from nacs.attentive import AttentiveCircuit, Modules, drop_modules, presets
from nacs.attentive.layers import ReadInAttention
from timing import high_water, interleaved, record


def read_in_case(batch, dtype):
    """A read-in of table 4's sizes, its modules and its tokens."""
    torch.manual_seed(0)
    layer = ReadInAttention(384, 256, heads=1, head_width=64, code_features=384)
    codes, states = torch.randn(2, 320, 384).to(dtype).requires_grad_()
    tokens = torch.randn(batch, 64, 256).to(dtype).requires_grad_()
    return layer.to(dtype), Modules(None, codes, states), tokens


def step(form, layer, group, tokens):
    """Forward and all gradients."""
    layer.form = form
    out = layer(group, tokens)
    leaves = [group.codes, group.states, tokens, *layer.parameters()]
    return out, *torch.autograd.grad(out.square().mean(), leaves)


def peak_bytes(form):
    """What one step adds to the resident memory of a fresh process, at its peak."""
    torch.set_num_threads(1)
    layer, group, tokens = read_in_case(8, torch.float32)
    step("folded", layer, *_first(group, tokens))  # what any form loads once
    before = high_water()
    step(form, layer, group, tokens)
    return high_water() - before


def _first(group, tokens):
    return Modules(None, group.codes[:8], group.states[:8]), tokens[:1]


def test_read_in():
    torch.set_num_threads(1)
    exact = read_in_case(2, torch.float64)
    plain, folded = (step(form, *exact) for form in ("plain", "folded"))
    pairs = zip(plain, folded, strict=True)
    error = max((a - b).abs().max().item() for a, b in pairs)
    assert error < 1e-10

    case = read_in_case(8, torch.float32)
    calls = {form: lambda f=form: step(f, *case) for form in ("plain", "folded")}
    seconds, ratios = interleaved(calls)
    context = multiprocessing.get_context("spawn")
    memory = {}
    for form in calls:
        with context.Pool(1) as pool:
            memory[form] = pool.apply(peak_bytes, (form,))
    record(
        "attentive",
        "read-in, forward and backward, batch 8",
        {
            "seconds": seconds,
            "speedup": ratios["folded"],
            "peak_bytes": memory,
            "memory_ratio": memory["plain"] / max(1, memory["folded"]),
            "error": error,
        },
    )


@pytest.mark.parametrize("batch", [8])
def test_dropped_modules(batch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AttentiveCircuit(presets.tiny_imagenet()).eval()
    kept = {"0 %": 320, "80 %": 64, "90 %": 32}
    smaller = {name: drop_modules(model, count) for name, count in kept.items()}
    images = torch.randn(batch, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(smaller["0 %"](images), model(images))
        calls = {name: lambda m=each: m(images) for name, each in smaller.items()}
        seconds, ratios = interleaved(calls)
    record(
        "attentive",
        f"modules dropped, batch {batch}",
        {"seconds": seconds, "speedup": ratios},
    )
