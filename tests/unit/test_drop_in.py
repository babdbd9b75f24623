"""Both layers inside somebody else's model, under everything torch does to a model."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state
from torch.testing import assert_close

from nacs.attentive import SKMDPA, Links, Modules
from nacs.native.parts import usable
from nacs.neuronal import NeuronalAttention, NeuronalConfig, freeze


def neuronal(**options):
    """A layer, and how it is called with states and the rest of its inputs."""
    layer = NeuronalAttention(NeuronalConfig(width=16, heads=2, top_k=4, **options))
    times, keep = torch.rand(3, 12).cumsum(1), torch.ones(3, 12, dtype=torch.bool)
    keep[1, 9:] = False

    def call(f, x):
        here = keep[: len(x)]
        heard = f(x, query_times=times[: len(x)], keep=here)[0]
        return heard * here.unsqueeze(-1)  # to padding all keys are alike

    return layer, call


def skmdpa(**options):
    signatures, codes = torch.randn(12, 8), torch.randn(12, 6)
    layer = SKMDPA(16, heads=2, head_width=8, code_features=6, **options).eval()
    edges = torch.rand(12, 12) > 0.3

    def call(f, x):
        group = Modules(signatures, codes, x)
        return f(group, group, edges)

    return layer, call


LAYERS = {
    "neuronal": neuronal,
    "neuronal, elapsed": partial(neuronal, horizon="elapsed"),
    "neuronal, causal": partial(neuronal, causal=True, window=6),
    "neuronal, euler": partial(neuronal, solver="euler", gate="circuit"),
    "neuronal, blocks": partial(neuronal, selection="blocks", block=4, blocks=1),
    "SKMDPA": skmdpa,
    "SKMDPA, links": lambda: skmdpa(links=Links(0.5)),
    "SKMDPA, bandwidth": lambda: skmdpa(links=Links(0.5, learnable_bandwidth=True)),
}
every = pytest.mark.parametrize("name", LAYERS)


def made(name):
    layer, call = LAYERS[name]()
    return layer, call, torch.randn(3, 12, 16)


@pytest.mark.parametrize("learning", [True, False])
@every
def test_compiles_without_a_break(name, learning):
    layer, call, x = made(name)
    layer.train(learning)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(learning):
        torch.manual_seed(1)
        wanted = call(layer, x)
        torch.manual_seed(1)
        found = call(compiled, x)
    assert_close(found, wanted)
    if learning:
        (mine,) = torch.autograd.grad(wanted.square().sum(), layer.out.parameters())[:1]
        theirs = torch.autograd.grad(found.square().sum(), layer.out.parameters())[0]
        assert_close(mine, theirs)


@every
def test_autocast(name):
    torch.set_default_dtype(torch.float32)
    layer, call, x = made(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = call(layer, x)
    wanted = call(layer, x)
    found.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())
    # bfloat16 has 8 bits; another key may be chosen where two score alike.
    assert (found - wanted).abs().mean() < 0.1 * wanted.abs().mean()
    assert not torch.equal(found.float(), wanted)


@every
def test_vmap_over_inputs_and_gradients_by_sample(name):
    """In float64 what torch does under vmap is what compiled code does without."""
    layer, call, x = made(name)
    assert usable(x)  # else both would be torch
    more = torch.stack([x, 2 * x, x - 1])
    found = torch.vmap(partial(call, layer))(more)
    assert_close(found, torch.stack([call(layer, each) for each in more]))
    weights = {key: each.detach() for key, each in layer.named_parameters()}

    def loss(weights, x):
        f = partial(functional_call, layer, weights)
        return call(lambda *a, **k: f(a, k), x.unsqueeze(0)).square().sum()

    apart = torch.vmap(grad(loss), in_dims=(None, 0))(weights, x)
    layer.zero_grad()
    call(layer, x[:1]).square().sum().backward()
    for key, each in layer.named_parameters():
        if each.grad is not None:
            assert_close(apart[key][0], each.grad, msg=key)


def test_vmap_over_what_is_asked_alone():
    """Selection of keys for queries that all samples share."""
    layer, _, x = made("neuronal")
    keys = torch.stack([x, 2 * x])
    found = torch.vmap(lambda key: layer(x, key)[0])(keys)
    assert_close(found, torch.stack([layer(x, key)[0] for key in keys]))


@every
def test_vmap_over_an_ensemble(name):
    layer, call, x = made(name)
    layers = [layer, copy.deepcopy(layer)]
    for each in layers[1].parameters():
        each.data.mul_(1.5)
    weights, buffers = stack_module_state(layers)
    base = copy.deepcopy(layer).to("meta")

    def one(weights, buffers):
        f = partial(functional_call, base, (weights, buffers))
        return call(lambda *a, **k: f(a, k), x)

    found = torch.vmap(one)(weights, buffers)
    assert_close(found, torch.stack([call(each, x) for each in layers]))


@pytest.mark.parametrize("name", ["neuronal", "SKMDPA, bandwidth"])
def test_compiled_vmap(name):
    layer, call, x = made(name)
    torch.compiler.reset()
    both = torch.vmap(partial(call, layer))
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    more = torch.stack([x, 2 * x])
    with torch.no_grad():
        assert_close(compiled(more), both(more))


def on_meta(name):
    torch.manual_seed(0)
    with torch.device("meta"):
        return LAYERS[name]()[0]


@every
def test_meta_device_and_state(name):
    layer, call, x = made(name)
    for assign in (False, True):
        other = on_meta(name)
        assert all(each.is_meta for each in other.parameters())
        if not assign:
            other = other.to_empty(device="cpu")
            for buffer in other.buffers():
                buffer.zero_()  # whatever the memory held
        other.load_state_dict(layer.state_dict(), assign=assign)
        assert_close(call(other.eval(), x), call(layer.eval(), x), rtol=0, atol=0)


@every
def test_copies(name):
    layer, call, x = made(name)
    wanted = call(layer, x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(call(other, x), wanted, rtol=0, atol=0)
        for each in other.parameters():
            each.data.zero_()
    assert_close(call(layer, x), wanted, rtol=0, atol=0)


def test_shapes_on_the_meta_device():
    with torch.device("meta"):
        for name in LAYERS:
            layer, call = LAYERS[name]()
            assert call(layer, torch.randn(3, 12, 16)).shape == (3, 12, 16)


def test_a_frozen_layer_takes_weights_too():
    layer, call, x = made("neuronal")
    other = freeze(neuronal()[0])
    other.load_state_dict(freeze(layer).state_dict())
    assert_close(call(other, x), call(layer, x))


def test_layers_go_to_another_process():
    """By pickle, into a process that starts afresh."""
    context = torch.multiprocessing.get_context("spawn")
    layers = [made(name) for name in ("neuronal", "SKMDPA, links")]
    with context.Pool(1) as pool:
        for layer, call, x in layers:
            layer.requires_grad_(requires_grad=False)
            ask = lambda *a, layer=layer, **k: pool.apply(layer, a, k)  # noqa: E731
            assert_close(call(ask, x), call(layer, x))
