"""How long neuronal attention takes beside its rivals, and how both grow with T.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
Sizes of the issue: 64 channels, 4 heads, 8 keys a query, batch 1. A layer whose fast
path does not agree with its plain form in float64, forward and backward, is not timed.
Needs the compiled code (`python -m nacs.native`) to say how fast that is; which was
used stands beside each result, `off` for none.
"""

import math
import multiprocessing
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nacs
from nacs.baselines.rivals import MIXERS
from nacs.neuronal import NeuronalAttention, NeuronalConfig, presets
from timing import counted, figures, high_water, interleaved, record

WIDTH, HEADS = 64, 4


class Sdpa(nn.Module):
    """The least an attention layer can be: projections around one fused call."""

    def __init__(self, heads=HEADS):
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in self.project(tokens).chunk(3, -1)
        )
        heard = F.scaled_dot_product_attention(q, k, v)
        return self.out(heard.transpose(1, 2).flatten(-2))


def torch_nac():
    """The authors' layer, from PyPI."""
    layers = pytest.importorskip("torch_nac.layers", reason="torch-nac is not here")
    return layers.NAC(
        input_dim=WIDTH, d_model=WIDTH, num_heads=HEADS, topk=8, return_sequences=True
    )


def layer(name, heads=HEADS):
    """A layer by name, as a function of tokens and times."""
    if name == "sdpa":
        made = Sdpa(heads)
        return lambda tokens, _: made(tokens)
    if name == "torch-nac":
        made = torch_nac()
        return lambda tokens, _: made(tokens)
    if name in MIXERS:
        return MIXERS[name](WIDTH, HEADS)
    config = {
        "neuronal": NeuronalConfig(heads=heads),
        "neuronal, blocks": NeuronalConfig(selection="blocks"),
        "neuronal, authors' circuit": presets.paper_attention(WIDTH, HEADS),
        "top-k softmax": NeuronalConfig(solver="score"),
    }[name]
    made = NeuronalAttention(config)
    return lambda tokens, times: made(tokens, query_times=times)[0]


def case(count, batch=1):
    torch.manual_seed(0)
    tokens = torch.randn(batch, count, WIDTH)
    return tokens, torch.rand(batch, count).cumsum(1) / count


def forward(call, tokens, times):
    with torch.no_grad():
        return call(tokens, times)


def both(call, tokens, times):
    tokens = tokens.clone().requires_grad_()
    call(tokens, times).square().mean().backward()


@pytest.fixture(autouse=True)
def _quiet():
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain(made, tokens):
    """The default layer written pair by pair, for a few tokens."""
    config = made.config
    q, k, v = (
        gate(tokens)[0].unflatten(-1, (config.heads, -1)).transpose(0, 1)
        for gate in (made.query, made.key, made.value)
    )
    rows = []
    for head in range(config.heads):
        for query in q[head]:
            scores = k[head] @ query / math.sqrt(config.head_width)
            best = scores.topk(config.top_k).indices
            pair = torch.cat([query.expand(len(best), -1), k[head][best]], -1)
            half = pair.shape[-1] // 2
            backbone = made.backbone
            inter = F.silu(
                backbone.from_queries(pair[:, :half])
                + backbone.from_keys(pair[:, half:])
            )
            heard = backbone.command(inter)
            command = F.silu(heard + backbone.recurrent(F.silu(heard)))
            motor = backbone.motor(command)
            drive = torch.sigmoid(backbone.drive(motor[:, :1]))[:, 0]
            rate = F.softplus(backbone.rate(motor[:, 1:]))[:, 0] + 1e-6
            decay = torch.exp(-rate)
            logits = scores[best] * decay + drive * (1 - decay) / rate
            weights = (logits * made.log_scale[head].exp()).softmax(-1)
            rows.append(weights @ v[head][best])
    heard = torch.stack(rows).unflatten(0, (config.heads, -1))
    return made.out(heard.transpose(0, 1).flatten(-2))


def agree():
    """The largest difference from the pair-by-pair form in float64, gradients too."""
    torch.manual_seed(0)
    made = NeuronalAttention(replace(NeuronalConfig(), top_k=5)).double()
    tokens = torch.randn(1, 40, WIDTH, dtype=torch.float64).requires_grad_()
    learned = [tokens, *made.parameters()]
    found = [
        [out, *torch.autograd.grad(out.square().sum(), learned)]
        for out in (made(tokens)[0][0], plain(made, tokens))
    ]
    return max((a - b).abs().max().item() for a, b in zip(*found, strict=True))


def beside(calls, act, tokens, times, rounds):
    """Figures of layers in turn, each beside the first."""
    given = {n: lambda c=c: act(c, tokens, times) for n, c in calls.items()}
    passes = 1 if act is forward else 3  # there, and back for inputs and for weights
    counts = {n: passes * counted(partial(c, tokens, times)) for n, c in calls.items()}
    found = figures(given, rounds, multiply_adds=counts)
    found["time_over_neuronal"] = {n: 1 / r for n, r in found.pop("speedup").items()}
    return found


@pytest.mark.parametrize("count", [1024])
def test_beside_rivals(count):
    error = agree()
    assert error < 1e-10
    tokens, times = case(count)
    names = ("neuronal", "neuronal, authors' circuit", "top-k softmax", "sdpa")
    calls = {name: layer(name) for name in (*names, "multi-head", "torch-nac")}
    slow = {name: layer(name) for name in ("neuronal", "gru", "cfc", "ltc", "gru-ode")}
    groups = (("attention", calls, 7), ("recurrent", slow, 7))
    for how, act in (("forward", forward), ("forward and backward", both)):
        for kind, group, rounds in groups:
            found = beside(group, act, tokens, times, rounds) | {"error": error}
            record("neuronal", f"beside {kind}, T = {count}, {how}", found)


@pytest.mark.parametrize(("count", "batch"), [(4096, 1), (1024, 32)])
def test_at_scale(count, batch):
    error = agree()
    assert error < 1e-10
    calls = {name: layer(name) for name in ("neuronal", "top-k softmax", "sdpa")}
    given = case(count, batch)
    for how, act in (("forward", forward), ("forward and backward", both)):
        found = beside(calls, act, *given, 5) | {"error": error}
        record("neuronal", f"T = {count}, batch {batch}, {how}", found)


def test_sixteen_heads():
    error = agree()
    assert error < 1e-10
    calls = {name: layer(name, heads=16) for name in ("neuronal", "sdpa")}
    given = case(1024)
    for how, act in (("forward", forward), ("forward and backward", both)):
        found = beside(calls, act, *given, 7) | {"error": error}
        record("neuronal", f"T = 1024, 16 heads, {how}", found)


@pytest.mark.parametrize("count", [1, 64, 1024])
def test_frozen(count):
    """A frozen layer beside the live one; at T = 1 the steps of a stream."""
    torch.manual_seed(0)
    streams = count == 1
    live = NeuronalAttention(NeuronalConfig(causal=streams, window=16 * streams)).eval()
    frozen, (tokens, times) = nacs.freeze(live), case(32 if streams else count)

    def run(made):
        if not streams:
            return made(tokens, query_times=times)[0]
        heard, state = tokens, None
        for token, time in zip(tokens.unbind(1), times.unbind(1), strict=True):
            heard, state = made.step(token, time, state)
        return heard

    with torch.no_grad():
        error = (run(live) - run(frozen)).abs().max().item()
        assert error < 1e-5  # float32; in float64 the tests say 1e-12
        calls = {"live": lambda: run(live), "frozen": lambda: run(frozen)}
        work = dict.fromkeys(calls, counted(lambda: run(live)))
        found = figures(calls, 15, multiply_adds=work) | {"error": error}
    what = "32 steps of a stream" if streams else f"T = {count}"
    record("neuronal", f"frozen, {what}", found)


def peak_bytes(name, count):
    """What forward and backward add to the resident memory of a fresh process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    call = layer(name)
    both(call, *case(32))
    before = high_water()
    both(call, *case(count))
    return high_water() - before


def test_peak_memory():
    context = multiprocessing.get_context("spawn")
    memory = {}
    for name in ("neuronal", "neuronal, authors' circuit", "sdpa", "torch-nac"):
        with context.Pool(1) as pool:
            memory[name] = pool.apply(peak_bytes, (name, 1024))
    with context.Pool(1) as pool:
        longest = pool.apply(peak_bytes, ("neuronal", 65536))
    ratios = {name: memory["torch-nac"] / each for name, each in memory.items()}
    record(
        "neuronal",
        "T = 1024, peak bytes, forward and backward",
        {
            "peak_bytes": memory,
            "torch_nac_over": ratios,
            "peak_bytes_of_neuronal_at_65536": longest,
        },
    )


COUNTS = (128, 256, 512, 1024, 2048, 4096, 8192)


@pytest.mark.parametrize("name", ["neuronal", "neuronal, blocks", "sdpa"])
def test_growth(name):
    call = layer(name)
    seconds = {}
    for count in COUNTS:
        found, _ = interleaved({"x": lambda n=count: both(call, *case(n))}, 3)
        seconds[count] = found["x"]
    context = multiprocessing.get_context("spawn")
    memory = {}
    for count in (1024, 8192):
        with context.Pool(1) as pool:
            memory[count] = pool.apply(peak_bytes, (name, count))
    far = [count for count in COUNTS if count >= 1024]
    logs = [(math.log(n), math.log(seconds[n])) for n in far]
    mean = [sum(column) / len(logs) for column in zip(*logs, strict=True)]
    top = sum((x - mean[0]) * (y - mean[1]) for x, y in logs)
    exponent = top / sum((x - mean[0]) ** 2 for x, _ in logs)
    record(
        "neuronal",
        f"growth of {name} with T, forward and backward",
        {
            "seconds": seconds,
            "exponent_from_1024": exponent,
            "peak_bytes": memory,
            "memory_exponent": math.log(memory[8192] / memory[1024]) / math.log(8),
        },
    )
