"""What a training step costs at table 4's sizes, and what half precision saves.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
A case that does not agree with its reference is not timed. Rates are shares of the
rate of the largest matrix product that occurs, measured in the same rounds.
"""

import statistics
import time
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from nacs.attentive import (
    AttentiveCircuit,
    Modules,
    freeze,
    gated,
    modulated,
    presets,
)
from nacs.attentive.attention import attention_weights
from nacs.attentive.gated import gated_attention
from nacs.attentive.layers import Propagator
from nacs.attentive.priors import graph_loss, graphon, match, matching_of
from nacs.compiled import compile_parts
from nacs.flops import multiply_adds
from nacs.native.gate import gate, plain_gate
from nacs.native.modulate import geglu, plain_geglu, plain_rescale, rescale
from nacs.optim import parameter_groups
from scaling import kept_bytes
from timing import interleaved, record

SIZES = {320: 8, 1024: 2}
"""Modules, and samples a step: about as many rows in every product."""


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def circuit(modules=320, layers=8):
    torch.manual_seed(0)
    config = replace(presets.tiny_imagenet(), modules=modules, layers=layers)
    return AttentiveCircuit(config)


def equal_perceiver(modules, layers, target, pictures):
    """A Perceiver IO with as many multiply-adds, to 1 %, through its hidden width."""
    config = replace(presets.tiny_imagenet(), modules=modules, layers=layers)
    config = presets.perceiver(config)
    for hidden in range(config.hidden, 4 * config.hidden, 32):
        model = AttentiveCircuit(replace(config, hidden=hidden))
        if multiply_adds(model, pictures) > 0.99 * target:
            assert multiply_adds(model, pictures) < 1.01 * target
            return model
    raise AssertionError


def stepper(model, pictures, *, half=False):
    """What `nacs.train` does with a batch."""
    groups = parameter_groups(model, weight_decay=0.05)
    optimiser = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    targets = torch.randint(200, (len(pictures),))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(pictures)
        loss = F.cross_entropy(logits.float(), targets) + 0.1 * model.regulariser()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def forward(model, pictures, *, half=False):
    def act():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, half):
            return model(pictures)

    return act


def product():
    """The largest product of table 4's sizes, batch 8, and its multiply-adds."""
    rows, weights = torch.randn(2560, 384), torch.randn(3072, 384)

    def act():
        for _ in range(10):
            F.linear(rows, weights)

    return act, 10 * 2560 * 384 * 3072


def share(seconds, name, count):
    """Of the rate of the product, whose seconds stand under "product"."""
    return (count / seconds[name]) / (product()[1] / seconds["product"])


def agreement():
    """The largest difference in float64 of the gated attention's numbers and slopes."""
    made = torch.randn(3, 2, 50, 6, 64, dtype=torch.float64).transpose(2, 3)
    mask = F.logsigmoid(torch.randn(2, 50, 50, dtype=torch.float64))
    leaves = [each.detach().requires_grad_() for each in (*made, mask)]
    q, k, v, log_kernel = leaves
    both = gated_attention(*leaves), attention_weights(q, k, log_kernel) @ v
    slopes = [torch.autograd.grad(out.square().sum(), leaves) for out in both]
    pairs = zip((both[0], *slopes[0]), (both[1], *slopes[1]), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def relative(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("modules", SIZES)
def test_step(modules):
    error = agreement()
    assert error < 1e-10
    pictures = torch.randn(SIZES[modules], 3, 64, 64)
    layers = 8 if modules == 320 else 4
    model = circuit(modules, layers)
    count = multiply_adds(model, pictures)
    perceiver = equal_perceiver(modules, layers, count, pictures)
    other = multiply_adds(perceiver, pictures)
    calls = {
        "step": stepper(model, pictures),
        "perceiver io": stepper(perceiver, pictures),
        "product": product()[0],
        "matching": model.regulariser,
    }
    work_of = {"step": count, "perceiver io": other}
    if modules == 320:
        work_of["bf16"] = count
        calls["bf16"] = stepper(circuit(modules, layers), pictures, half=True)
    seconds, ratios = interleaved(calls)
    over = {name: 1 / ratios[name] for name in ratios if name != "step"}
    record(
        "training",
        f"training step, {modules} modules, {layers} layers, batch {len(pictures)}",
        {
            "seconds": seconds,
            "over_perceiver_io": ratios["perceiver io"],
            "flops_over_perceiver_io": count / other,
            "share_of_product_rate": {
                name: share(seconds, name, 3 * work) for name, work in work_of.items()
            },
            "graph_loss_share_of_step": over["matching"],
            "bf16_speedup": ratios.get("bf16"),
            "error": error,
        },
    )


def gated_backs(batch, heads, modules, width, dtype=torch.float32):
    """Gradients of gated attention as they are, a head at a time, and weighed by torch.

    Beside them torch's own fused attention, which gives the mask no gradient.
    """
    made = torch.randn(4, batch, modules, heads, width, dtype=dtype).transpose(2, 3)
    mask = F.logsigmoid(torch.randn(batch, modules, modules, dtype=dtype))
    leaves = [each.detach().requires_grad_() for each in (*made[:3], mask)]
    q, k, v, _ = leaves
    out = gated_attention(*leaves)
    fused = F.scaled_dot_product_attention(q, k, v, mask.unsqueeze(1))

    def back(block, weigh):
        with patch.multiple(gated, BLOCK=block, gate=weigh):
            return torch.autograd.grad(out, leaves, made[3], retain_graph=True)

    def torchs():
        return torch.autograd.grad(fused, [q, k, v], made[3], retain_graph=True)

    return {
        "now": partial(back, gated.BLOCK, gate),
        "head by head": partial(back, modules**2, gate),
        "weighed by torch": partial(back, gated.BLOCK, plain_gate),
        "torch's, of no mask": torchs,
    }


@pytest.mark.parametrize(
    "sizes", [(64, 3, 80, 32), (32, 4, 32, 8), (2, 6, 320, 64), (2, 6, 1024, 64)]
)
def test_gated_attention(sizes):
    """The sizes of the demo, of reviews in table 3, and of training steps."""
    now, *others = [act() for act in gated_backs(*sizes, dtype=torch.float64).values()]
    pairs = [pair for other in others for pair in zip(now, other, strict=False)]
    error = max((a - b).abs().max().item() for a, b in pairs)
    assert error < 1e-10
    seconds, ratios = interleaved(gated_backs(*sizes))
    batch, heads, modules, width = sizes
    record(
        "training",
        f"gradients of gated attention, batch {batch}, {heads} heads of {width}, "
        f"{modules} modules",
        {"seconds": seconds, "speedup": ratios, "error": error},
    )


def modulations(rows, channels, dtype=torch.float32):
    """GEGLU and what rescales it, and rescaling alone, of 8 samples, both ways."""
    wide = torch.randn(8, rows, 2 * channels, dtype=dtype, requires_grad=True)
    states = torch.randn(8, rows, channels, dtype=dtype, requires_grad=True)
    scale = torch.randn(rows, channels, dtype=dtype, requires_grad=True)
    slope = torch.randn(8, rows, channels, dtype=dtype)

    def act(function, given):
        out = function(given, scale)
        return (out, *torch.autograd.grad(out, [given, scale], slope))

    return {
        "geglu": partial(act, geglu, wide),
        "geglu in torch": partial(act, plain_geglu, wide),
        "rescale": partial(act, partial(rescale, half=False), states),
        "rescale in torch": partial(act, plain_rescale, states),
    }


def in_torch(act):
    """The same without compiled modulation."""

    def plain():
        with patch.object(modulated, "FEWEST", 2**62):
            return act()

    return plain


def test_modulation():
    """By itself, and what it saves of a step: time, and what autograd keeps."""
    found = {name: act() for name, act in modulations(20, 70, torch.float64).items()}
    pairs = [
        pair
        for name in ("geglu", "rescale")
        for pair in zip(found[name], found[name + " in torch"], strict=True)
    ]
    error = max((a - b).abs().max().item() for a, b in pairs)
    assert error < 1e-10
    pictures = torch.randn(8, 3, 64, 64)
    model = circuit(layers=2)
    step = stepper(model, pictures)
    half = stepper(circuit(layers=2), pictures, half=True)
    steps = {"step": step, "step in torch": in_torch(step)}
    steps |= {"bf16 step": half, "bf16 step in torch": in_torch(half)}
    seconds, _ = interleaved(modulations(320, 1536) | steps)

    def back():
        model(pictures).sum().backward()

    record(
        "training",
        "modulation, 320 modules, batch 8, 2 layers",
        {
            "seconds": seconds,
            "over_compiled": {
                name: seconds[name + " in torch"] / seconds[name]
                for name in ("geglu", "rescale", "step", "bf16 step")
            },
            "kept_megabytes": {
                "compiled": kept_bytes(model, back) / 2**20,
                "torch": kept_bytes(model, in_torch(back)) / 2**20,
            },
            "error": error,
        },
    )


def test_forward():
    pictures = torch.randn(8, 3, 64, 64)
    model = circuit().eval()
    exact = forward(circuit().double().eval(), pictures.double())()
    frozen, narrow = freeze(model), freeze(model).bfloat16()
    acts = {
        "float32": forward(model, pictures),
        "bf16": forward(model, pictures, half=True),
        "frozen": forward(frozen, pictures),
        "frozen, bf16": forward(narrow, pictures.bfloat16()),
    }
    errors = {name: relative(act().double(), exact) for name, act in acts.items()}
    assert all(error < (0.05 if "bf16" in n else 1e-4) for n, error in errors.items())
    seconds, ratios = interleaved(acts | {"product": product()[0]})
    record(
        "training",
        "forward of the live circuit, 320 modules, batch 8",
        {
            "seconds": seconds,
            "share_of_product_rate": {
                name: share(seconds, name, multiply_adds(model, pictures))
                for name in acts
            },
            "speedup": {name: ratios[name] for name in acts},
            "frozen_bf16_over_frozen": seconds["frozen"] / seconds["frozen, bf16"],
            "relative_error": errors,
        },
    )


def test_frozen_propagator():
    config = presets.tiny_imagenet()
    layer = circuit(layers=1).propagators[0].eval()
    assert isinstance(layer, Propagator)
    modules = Modules(
        torch.randn(320, config.signature),
        torch.randn(320, config.code),
        torch.randn(320, config.width),
    )
    here = modules._replace(states=torch.randn(8, 320, config.width))
    with torch.inference_mode():
        live = layer(here, here)
        layer.requires_grad_(requires_grad=False).fix(modules, modules, None)
        error = (layer(here, here) - live).abs().max().item()
        assert error < 1e-4  # float32; in float64 the tests compare
        calls = {"frozen": lambda: layer(here, here), "product": product()[0]}
        seconds, _ = interleaved(calls, 15)
    per_row = 4 * 384**2 + 3 * 384 * config.hidden + 2 * 384 * 320
    record(
        "training",
        "frozen propagator, 320 modules, batch 8",
        {
            "seconds": seconds,
            "share_of_product_rate": share(seconds, "frozen", 8 * 320 * per_row),
            "error": error,
        },
    )


def test_matching():
    found = {}
    sizes = [("scale-free", count) for count in (320, 1024, 4096)]
    sizes += [("planted-partition", count) for count in (320, 1024)]
    for name, count in sizes:
        prior = graphon(name, count).float()
        order = torch.randperm(count)
        links, how = prior[order][:, order], matching_of(prior)
        labels = match(links, prior, how=how)
        assert graph_loss(links, prior, labels) < 1e-4
        seconds = []
        for _ in range(7):
            start = time.process_time()
            match(links, prior, start=labels, how=how)
            seconds.append(time.process_time() - start)
        found[f"{name}, {count} modules"] = statistics.median(seconds)
    record("training", "matching of a relabelled prior", {"seconds": found})


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by dynamo
def test_compiled():
    pictures = torch.randn(8, 3, 64, 64)
    eager, compiled = circuit(layers=2), circuit(layers=2)
    compile_parts(compiled)
    error = relative(compiled.eval()(pictures), eager.eval()(pictures))
    assert error < 1e-3
    calls = {
        "eager": stepper(eager.train(), pictures),
        "compiled": stepper(compiled.train(), pictures),
        "eager, bf16": stepper(circuit(layers=2), pictures, half=True),
    }
    wall = time.perf_counter()
    calls["compiled"]()
    wall = time.perf_counter() - wall
    seconds, ratios = interleaved(calls | {"product": product()[0]})
    work = 3 * multiply_adds(eager, pictures)
    record(
        "training",
        "compiled training step, 2 layers, batch 8",
        {
            "seconds": seconds,
            "speedup": ratios["compiled"],
            "share_of_product_rate": {n: share(seconds, n, work) for n in calls},
            "compile_seconds": wall,
            "error": error,
        },
    )
