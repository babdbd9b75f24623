"""A layer with compiled code is the layer in torch, forward and backward."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nacs import native
from nacs.native.calls import attend
from nacs.neuronal import NeuronalAttention, NeuronalConfig, compiled
from nacs.neuronal.pairs import top_k

pytestmark = pytest.mark.skipif(native.level() == "off", reason="nothing is compiled")

SMALL = {"width": 16, "heads": 2, "inter": 8, "command": 4, "top_k": 3}


def built(**changes):
    layer = NeuronalAttention(NeuronalConfig(**{**SMALL, **changes}))
    for parameter in layer.parameters():  # no start value may hide a mistake
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def series(batch, count, width=16):
    return torch.randn(batch, count, width), torch.rand(batch, count).cumsum(1)


def weighted(out, weights):
    """A loss under which every number of the output has a gradient of its own."""
    waves = (torch.arange(x.numel()).view_as(x).sin() for x in (out, weights))
    return sum((x * wave).sum() for x, wave in zip((out, weights), waves, strict=True))


def summed(out, _):
    """One that asks nothing of the weights."""
    return out.sum()


def results(layer, inputs, loss, options):
    """Output, weights and gradients by name."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    layer.zero_grad()
    out, weights = layer(*inputs, need_weights=True, **options)
    loss(out, weights).backward()
    found = {"out": out, "weights": weights}
    found |= {f"input {n}": x.grad for n, x in enumerate(inputs)}
    return found | {name: p.grad for name, p in layer.named_parameters()}


def assert_same(layer, *inputs, loss=weighted, **options):
    q = layer.query(inputs[0]).unflatten(-1, (layer.config.heads, -1)).transpose(1, 2)
    k = layer.key(inputs[-1]).unflatten(-1, (layer.config.heads, -1)).transpose(1, 2)
    assert compiled.serves(layer.config, q, k, k, [])  # else torch agrees with itself
    fast = results(layer, inputs, loss, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "serves", lambda *_: False)
        plain = results(layer, inputs, loss, options)
    for name, wanted in plain.items():
        if wanted is None:  # what a control does not use
            assert fast[name] is None, name
            continue
        # Sums of up to 1e4 numbers of the order of 1 to 100, in another order.
        assert_close(
            fast[name], wanted, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: n + m
        )


@given(
    seed=st.integers(0, 2**32 - 1),
    head_width=st.integers(1, 40),
    heads=st.integers(1, 3),
    neurons=st.tuples(st.integers(1, 40), st.integers(2, 40), st.integers(2, 4)),
    pairs=st.integers(1, 70),
    more=st.integers(1, 30),
    options=st.fixed_dictionaries(
        {
            "solver": st.sampled_from(["exact", "exact", "exact", "score"]),
            "start": st.sampled_from(["score", "zero"]),
            "horizon": st.sampled_from(["unit", "elapsed"]),
            "logit_scale": st.booleans(),
            "causal": st.booleans(),
        }
    ),
    masked=st.booleans(),
    loss=st.sampled_from([weighted, summed]),
)
def test_the_same_layer(
    seed, head_width, heads, neurons, pairs, more, options, masked, loss
):
    torch.manual_seed(seed)
    sizes = dict(zip(("inter", "command", "motor"), neurons, strict=True))
    width = head_width * heads
    layer = built(width=width, heads=heads, top_k=pairs, **sizes, **options)
    tokens, times = series(2, pairs + more, width)
    keep = torch.rand(times.shape) > 0.3 if masked else None
    assert_same(layer, tokens, loss=loss, query_times=times, keep=keep)


@pytest.mark.parametrize("change", [{}, {"horizon": "elapsed"}])
def test_the_default_sizes(change):
    """Those the compiler knows."""
    layer = built(width=64, heads=4, inter=32, command=16, top_k=8, **change)
    tokens, times = series(2, 100, 64)
    assert_same(layer, tokens, query_times=times)


@pytest.mark.parametrize("change", [{}, {"horizon": "elapsed"}])
def test_queries_and_keys_of_their_own(change):
    layer = built(**change)
    tokens, times = series(3, 11)
    others, stamps = series(3, 29)
    given = {"query_times": times, "key_times": stamps}
    assert_same(layer, tokens, others, torch.randn_like(others), **given)


def test_other_selections():
    tokens, _ = series(2, 60)
    allowed = torch.rand(2, 60, 60) > 0.9
    assert_same(built(), tokens, allowed=allowed)
    few = torch.rand(2, 60, 60) > 0.98  # filled up with keys that must not count
    assert_same(built(), 30 * tokens, allowed=few)
    blocks = built(selection="blocks", block=16, blocks=1, causal=True)
    assert_same(blocks, tokens, keep=torch.rand(2, 60) > 0.3)


def test_gates_far_out():
    """Where an exponential could overflow, or a logarithm lose its digits."""
    layer, (tokens, times) = built(horizon="elapsed"), series(1, 40)
    for bias in (-60.0, -12.0, 0.0, 19.0, 21.0, 900.0):
        torch.nn.init.constant_(layer.backbone.rate.bias, bias)
        torch.nn.init.constant_(layer.backbone.drive.bias, -bias)
        assert_same(layer, tokens, query_times=times)


def test_nothing_to_hear():
    layer, (tokens, _) = built(), series(2, 9)
    keep = torch.tensor([[True] * 9, [False] * 9])
    assert_same(layer, tokens, keep=keep)
    tokens.requires_grad_()
    out, weights = layer(tokens, keep=keep, need_weights=True)
    out.sum().backward()
    assert_close(out[1], layer.out.bias.expand(9, 16))
    assert (weights[1] == 0).all()
    assert torch.isfinite(tokens.grad).all()


@pytest.mark.parametrize("change", [{}, {"horizon": "elapsed"}])
def test_padding_may_be_anything(change):
    """Also where a query has fewer keys than pairs, or none."""
    layer, (tokens, times) = built(**change), series(3, 20)
    keep = torch.arange(20) > torch.tensor([[4], [17], [19]])
    found = []
    for filling in (0.0, math.nan, math.inf):
        given = tokens.masked_fill(~keep.unsqueeze(-1), filling).requires_grad_()
        stamps = times.masked_fill(~keep, filling)
        told = {"query_times": times, "key_times": stamps}
        out = layer(tokens, given, keep=keep, **told)[0]
        layer.zero_grad()
        out.sum().backward()
        found.append((out, layer.backbone.command.weight.grad))
    for out, grad in found[1:]:
        assert_close(out, found[0][0])
        assert_close(grad, found[0][1])


@pytest.mark.parametrize("change", [{}, {"solver": "score"}])
def test_nan_shows(change):
    layer, (tokens, _) = built(**change), series(1, 20)
    tokens[0, 5] = math.nan
    assert layer(tokens)[0].isnan().all()  # as in torch it is everybody's best key
    later = built(causal=True, **change)(tokens)[0].isnan().any(-1)[0]
    assert later.tolist() == [False] * 5 + [True] * 15


def test_float32_is_float64_rounded():
    layer, (tokens, times) = built(width=64, heads=4, top_k=8), series(1, 300, 64)
    wanted = layer(tokens, query_times=times)[0]
    found = layer.float()(tokens.float(), query_times=times.float())[0]
    # A key on the border of the selection may change; the rest is rounding of 6e-8,
    # through sums of 64 numbers of the order of 10.
    assert (found - wanted).abs().median() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_share_the_work(dtype):
    layer, (tokens, _) = built().to(dtype), series(3, 40)
    tokens = tokens.to(dtype)
    alone = results(layer, [tokens], weighted, {})
    torch.set_num_threads(4)
    for name, found in results(layer, [tokens], weighted, {}).items():
        assert torch.equal(found, alone[name]), name


def call_of(layer, times):
    """Arguments of `attend` for a layer's own tokens."""
    q, k, v = torch.randn(3, 2, 2, 20, 8)
    pairs, backbone = top_k(q, k, None, 3, causal=True), layer.backbone
    rows = [q, k, v, backbone.from_queries(q), backbone.from_keys(k)]
    circuit = [backbone.command.synapses, backbone.command.bias]
    circuit += [backbone.recurrent.synapses, *backbone.heads()]
    scale = layer.log_scale.exp().detach()
    lists = (rows, [layer.log_pace.exp()], circuit)
    rows, pace, circuit = ([x.detach().requires_grad_() for x in e] for e in lists)
    given = [times, times, *pace]
    return rows, pairs.chosen, pairs.alive, given, scale, circuit, True


def test_it_is_an_operation_of_torch():
    """Gradients, shapes and strides without data, nothing written over."""
    torch.library.opcheck(
        attend.overload, call_of(built(horizon="elapsed"), series(2, 20)[1])
    )


def test_a_gradient_may_be_one_number_with_strides_of_0():
    rows, *rest = call_of(built(horizon="elapsed"), series(2, 20)[1])
    out, _ = attend(rows, *rest)
    assert_close(
        torch.autograd.grad(out.sum(), rows, retain_graph=True),
        torch.autograd.grad((out * torch.ones_like(out)).sum(), rows),
    )


def test_a_layer_compiles_as_one_graph():
    layer, (tokens, times) = built(horizon="elapsed"), series(2, 20)

    def run(tokens, times):
        return layer(tokens, query_times=times, need_weights=True)

    compiled_run = torch.compile(run, backend="aot_eager", fullgraph=True)
    grads = []
    for call in (run, compiled_run):
        inputs = tokens.clone().requires_grad_()
        weighted(*call(inputs, times)).backward()
        grads.append(inputs.grad)
    assert_close(*grads)


def test_a_second_derivative_is_refused_not_wrong():
    layer, (tokens, _) = built(), series(1, 20)
    tokens.requires_grad_()
    (first,) = torch.autograd.grad(layer(tokens)[0].sum(), tokens, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd formula"):
        first.square().sum().backward()


def test_times_that_need_a_gradient_get_it():
    layer, (tokens, times) = built(horizon="elapsed"), series(1, 20)
    layer(tokens, query_times=times.requires_grad_())[0].sum().backward()
    assert (times.grad != 0).any()


def test_layers_left_to_torch():
    tokens, times = series(1, 20)
    for change in (
        {"solver": "euler"},
        {"solver": "steady"},
        {"horizon": "gate"},
        {"integration": "gate"},
        {"top_k": 0},
        {"top_k": 20},
    ):
        layer = built(**change)
        q = tokens.unflatten(-1, (2, -1)).transpose(1, 2)
        assert not compiled.serves(layer.config, q, q, q, [times]), change
        assert torch.isfinite(layer(tokens, query_times=times)[0]).all()
