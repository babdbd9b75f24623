"""What freezing and lists of edges save at table 4's sizes.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
A case that does not agree with its reference in float64 is not timed.
"""

import multiprocessing
import platform
import statistics
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from nacs.attentive import (
    AttentiveCircuit,
    Modules,
    drop_modules,
    eliminate_edges,
    freeze,
    presets,
)
from nacs.attentive.layers import Propagator
from nacs.attentive.sparse import edge_attention, edge_list
from nacs.demo import forward_seconds
from nacs.flops import multiply_adds
from nacs.native import level
from nacs.packed import pack
from nacs.pages import keep_pages
from timing import figures, record

compiled = pytest.mark.skipif(level() == "off", reason="nothing is compiled")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def difference(small):
    """The largest difference between a frozen model and the live one in float64."""
    model = AttentiveCircuit(small).double().eval()
    pictures = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    return (freeze(model)(pictures) - model(pictures)).abs().max().item()


@pytest.mark.parametrize("batch", [1, 4])
def test_frozen(batch):
    error = difference(replace(presets.tiny_imagenet(), modules=40, layers=2))
    assert error < 1e-10
    model = AttentiveCircuit(presets.tiny_imagenet()).eval()
    perceiver = AttentiveCircuit(presets.perceiver(presets.tiny_imagenet())).eval()
    pictures = torch.randn(batch, 3, 64, 64)
    calls = {"live": model, "frozen": freeze(model), "perceiver io": perceiver}
    live = {"live": model, "frozen": model, "perceiver io": perceiver}
    for share in (0.5, 0.8, 0.875, 0.9, 0.95):
        name, kept = f"{share:.1%} dropped, frozen", round(320 * (1 - share))
        live[name] = drop_modules(model, kept)
        calls[name] = freeze(live[name])
    work = {name: multiply_adds(each, pictures) for name, each in live.items()}
    with torch.inference_mode():
        off = (calls["frozen"](pictures) - model(pictures)).abs().max().item()
        assert off < 1e-5  # float32, in which weights are packed
        acts = {name: lambda m=each: m(pictures) for name, each in calls.items()}
        told = figures(acts, multiply_adds=work)
    told["speedup_over_live"] = told.pop("speedup")
    told |= {"error": error, "error_in_float32": off}
    record("frozen", f"frozen circuits, batch {batch}", told)


def graph(kind, count, density):
    """A symmetric graph of about this density, itself included: True is an edge."""
    chance = torch.full((count, count), density)
    if kind == "planted":  # as many blocks as make it that dense, 0.9 within
        block = torch.arange(count) * round(0.9 / density) // count
        chance = torch.where(block[:, None] == block, 0.9, 0.002)
    drawn = (torch.rand(count, count) < chance).triu(1)
    return drawn | drawn.T | torch.eye(count, dtype=torch.bool)


def rows(count, dtype, heads=6, width=64):
    made = torch.randn(3, 1, count, heads, width, dtype=dtype)
    return made.transpose(2, 3)


def along(mask, bias):
    """Edges, and the bias of each."""
    edges = edge_list(mask)
    return edges, bias[edges.receivers, edges.senders.long()].unsqueeze(0)


def masked(mask, bias):
    return bias.masked_fill(~mask, -torch.inf)


def agreement(kind, density):
    mask = graph(kind, 300, density)
    bias = torch.randn(300, 300, dtype=torch.float64)
    q, k, v = rows(300, torch.float64)
    dense = F.scaled_dot_product_attention(q, k, v, masked(mask, bias))
    return (edge_attention(q, k, v, *along(mask, bias)) - dense).abs().max().item()


@compiled
@pytest.mark.parametrize("count", [320, 1024, 4096])
@pytest.mark.parametrize("kind", ["random", "planted"])
def test_attention_along_edges(count, kind):
    densities = (0.05, 0.1, 0.2, 0.4, 0.6) if kind == "random" else (0.1,)
    for density in densities:
        error = agreement(kind, density)
        assert error < 1e-10
        mask, bias = graph(kind, count, density), torch.randn(count, count)
        q, k, v = rows(count, torch.float32)
        wall, listed = masked(mask, bias), along(mask, bias)
        with torch.inference_mode():
            found = figures(
                {
                    "mask": partial(F.scaled_dot_product_attention, q, k, v, wall),
                    "edges": partial(edge_attention, q, k, v, *listed),
                },
                7 if count < 4096 else 3,
                multiply_adds={
                    "mask": 2 * count**2 * 6 * 64,
                    "edges": 2 * int(mask.sum()) * 6 * 64,
                },
            )
        record(
            "frozen",
            f"attention, {count} modules, {kind} graph, density {density}",
            found | {"error": error},
        )


@compiled
@pytest.mark.parametrize("count", [320, 1024, 4096])
def test_propagator_along_edges(count):
    """Frozen as `freeze` does it, by a mask and along the edges; and not frozen."""
    config = presets.tiny_imagenet()
    layers = AttentiveCircuit(replace(config, layers=3)).propagators.eval()
    modules = Modules(
        torch.randn(count, config.signature),
        torch.randn(count, config.code),
        torch.randn(count, config.width),
    )
    mask = graph("random", count, 0.1)
    for layer, sparse in zip(layers[1:], (False, True), strict=True):
        assert isinstance(layer, Propagator)
        layer.load_state_dict(layers[0].state_dict())
        layer.requires_grad_(requires_grad=False)
        layer.fix(modules, modules, mask, sparse=sparse)
        pack(layer, count)
    states = torch.randn(1, count, config.width)
    live, here = modules._replace(states=states), Modules(None, None, states)
    calls = {
        "mask": lambda: layers[1](here, here),
        "edges": lambda: layers[2](here, here),
        "live, mask": lambda: layers[0](live, live, mask),
    }
    with torch.inference_mode():
        dense, *others = (call() for call in calls.values())
        error = max((dense - each).abs().max().item() for each in others)
        assert error < 1e-4  # float32; the layers agree in float64 in the tests
        per_row = 4 * config.width**2 + 3 * config.width * config.hidden
        heard = {"mask": count**2, "edges": int(mask.sum())}
        work = {
            name: count * per_row + 2 * config.width * each
            for name, each in heard.items()
        }
        rounds = 7 if count < 4096 else 3
        found = figures(calls, rounds, multiply_adds=work)
    record(
        "frozen",
        f"frozen propagator, {count} modules, 10 % of the edges",
        found | {"error": error},
    )


@compiled
def test_whole_model_along_edges():
    model = AttentiveCircuit(presets.tiny_imagenet()).eval()
    pruned = eliminate_edges(model, 0.9)
    calls = {
        "mask": freeze(pruned, sparse=False),
        "edges": freeze(pruned),
    }
    pictures = torch.randn(1, 3, 64, 64)
    work = {"mask": multiply_adds(model, pictures)}
    with torch.inference_mode():
        acts = {name: lambda m=each: m(pictures) for name, each in calls.items()}
        found = figures(acts, multiply_adds=work)
    record(
        "frozen",
        "frozen circuit of 320 modules, 90 % of the edges eliminated, batch 1",
        found,
    )


def alone(keeps, batch):
    """Processor seconds of forward passes, in a process of its own."""
    torch.set_num_threads(1)
    assert not keeps or keep_pages()
    model = freeze(AttentiveCircuit(presets.tiny_imagenet()))
    return forward_seconds([model], torch.randn(batch, 3, 64, 64), rounds=5)[0]


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is another"
)
@pytest.mark.parametrize("batch", [8, 16])
def test_pages_that_are_kept(batch):
    """What the command line does, and a program of one's own may do."""
    context = multiprocessing.get_context("spawn")
    seconds = {False: [], True: []}
    for _ in range(3):
        for keeps in seconds:
            with context.Pool(1) as pool:
                seconds[keeps] += pool.apply(alone, (keeps, batch))
    taken = {
        "pages given back": statistics.median(seconds[False]),
        "pages kept": statistics.median(seconds[True]),
    }
    given, kept = taken.values()
    speedup = {"pages given back": 1.0, "pages kept": given / kept}
    record(
        "frozen",
        f"frozen circuit, batch {batch}, freed memory",
        {"seconds": taken, "speedup": speedup},
    )
