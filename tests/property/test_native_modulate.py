"""Compiled modulation and GEGLU are torch's, both ways, whatever the shape and type."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nacs import native
from nacs.attentive import AttentiveCircuit, freeze, modulated, presets
from nacs.attentive.modulated import ModFC, ModFFN
from nacs.native.modulate import geglu, plain_geglu, plain_rescale, rescale

pytestmark = pytest.mark.skipif(native.level() == "off", reason="nothing is compiled")


def slopes(function, inputs, d_out, **options):
    """What a function gives, and its gradients."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    out = function(*leaves, *[None] * (2 - len(leaves)))
    return out, *torch.autograd.grad(out, leaves, d_out, **options)


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 70)),
    scaled=st.booleans(),
    threads=st.integers(1, 3),
)
def test_it_is_torchs(sizes, scaled, threads):
    batch, modules, hidden = sizes
    torch.set_num_threads(threads)
    wide, scale = (
        4 * torch.randn(batch, modules, 2 * hidden),
        torch.randn(modules, hidden),
    )
    d_out = torch.randn(batch, modules, hidden)
    inputs = [wide, scale] if scaled else [wide]
    found = slopes(geglu, inputs, d_out)
    for ours, plain in zip(found, slopes(plain_geglu, inputs, d_out), strict=True):
        assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    inputs = [wide[..., ::2], scale]  # not side by side in memory
    found = slopes(lambda *x: rescale(*x, False), inputs, d_out)
    for ours, plain in zip(found, slopes(plain_rescale, inputs, d_out), strict=True):
        assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_float32_is_right_to_its_last_places():
    inputs = [torch.linspace(-14, 14, 40_000), torch.linspace(0.5, 2, 20_000)]
    inputs = [inputs[0].view(1, 1, -1).flip(-1), inputs[1].view(1, -1)]
    d_out = torch.ones(1, 1, 20_000)
    exact = slopes(plain_geglu, inputs, d_out)
    found = slopes(geglu, [x.float() for x in inputs], d_out.float())
    for ours, wanted in zip(found, exact, strict=True):
        assert_close(ours, wanted.float(), rtol=2e-6, atol=1e-6)


def test_bfloat16_is_what_float32_rounds_to():
    """But for the last place where float32 itself may lie on the other side."""
    wide = (3 * torch.randn(2, 50, 90)).bfloat16()
    scale, d_out = torch.randn(50, 45).float(), torch.randn(2, 50, 45).bfloat16()
    found = slopes(geglu, [wide, scale], d_out)
    wanted = slopes(geglu, [wide.float(), scale], d_out.float())
    assert found[0].dtype is found[1].dtype is torch.bfloat16
    for ours, exact in zip(found[:2], wanted[:2], strict=True):
        assert (ours == exact.bfloat16()).double().mean() > 0.99
        assert_close(ours, exact.bfloat16(), rtol=2**-7, atol=1e-30)
    assert_close(found[2], wanted[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_in_bfloat16_is_torchs_to_the_bit(dtype):
    states, scale = torch.randn(2, 50, 45).to(dtype), torch.randn(50, 45).float()
    d_out = torch.randn(2, 50, 45).bfloat16()
    found = slopes(lambda *x: rescale(*x, True), [states, scale], d_out)
    wanted = slopes(lambda *x: plain_rescale(*x, half=True), [states, scale], d_out)
    for ours, plain in zip(found[:2], wanted[:2], strict=True):
        assert ours.dtype is plain.dtype
        assert (ours == plain).all()
    assert_close(found[2], wanted[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_no_number_stays_none(dtype):
    gates = torch.tensor([torch.nan, torch.inf, -torch.inf, -1e30, 1.0])
    wide = torch.cat([torch.ones(5), gates]).view(1, 1, 10).to(dtype)
    found = geglu(wide, None).flatten().double()
    assert found[0].isnan()
    assert found[1] == torch.inf
    assert_close(found[2:4], torch.zeros(2), atol=1e-30, rtol=0)
    spoiled = geglu(wide.flip(-1), None).flatten()  # as a value, not a gate
    assert spoiled[-1].isnan()


def leaves():
    made = torch.randn(2, 3, 8), torch.randn(2, 3, 4), torch.randn(3, 4)
    return [each.requires_grad_() for each in made]


def test_the_gradient_has_a_gradient():
    wide, states, scale = leaves()
    assert torch.autograd.gradgradcheck(geglu, (wide, scale))
    assert torch.autograd.gradgradcheck(rescale, (states, scale, False))


def test_torch_knows_the_operations():
    wide, states, scale = leaves()
    for each in (None, scale):
        torch.library.opcheck(geglu.overload, (wide, each))
    torch.library.opcheck(rescale.overload, (states, scale, False))
    narrow = states.detach().float().requires_grad_(), scale.detach().float(), True
    torch.library.opcheck(rescale.overload, narrow)


@pytest.fixture
def always(monkeypatch):
    """All modulation is worth compiled code; the calls are counted by name."""
    called = Counter()

    def counted(name, function):
        def call(*inputs):
            called[name] += 1
            return function(*inputs)

        return call

    monkeypatch.setattr(modulated, "FEWEST", 0)
    for name, each in (("geglu", geglu), ("rescale", rescale)):
        monkeypatch.setattr(modulated, name, counted(name, each))
    return called


SHAPES = [(5, 3), (2, 5, 3), (4, 2, 5, 3), (1, 3), None]
"""Of codes for states of (4, 2, 5) modules; (2, 5) or (1,) of them are broadcast, which
is torch's business."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_is_the_same_with_codes_of_any_shape(always, shape):
    ffn = ModFFN(6, 7, code_features=3)
    states = torch.randn(4, 2, 5, 6)
    codes = None if shape is None else torch.randn(shape)
    found = ffn(states, codes)
    served = shape not in {(2, 5, 3), (1, 3)}
    assert always["geglu"] == served
    assert always["rescale"] == (served and shape is not None)

    def scaled(layer, x):
        scale = layer.scale(codes)
        return x if scale is None else x * scale

    value, gate = ffn.expand.linear(scaled(ffn.expand, ffn.norm(states))).chunk(2, -1)
    hidden = scaled(ffn.contract, value * torch.nn.functional.gelu(gate))
    assert_close(found, states + ffn.contract.linear(hidden))


def results(model, pictures):
    model.zero_grad()
    out = model(pictures)
    out.square().sum().backward()
    return [out, freeze(model)(pictures), *(p.grad for p in model.parameters())]


def test_circuits_train_and_freeze_the_same(always, monkeypatch):
    model = AttentiveCircuit(replace(presets.tiny(), evaluation="expected")).eval()
    pictures = torch.randn(3, 1, 8, 8)
    found = results(model, pictures)
    layers = model.config.layers
    assert always["geglu"] == 2 * (2 + layers)
    assert always["rescale"] > 5 * layers
    monkeypatch.setattr(modulated, "FEWEST", 2**62)
    for ours, plain in zip(found, results(model, pictures), strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_under_autocast(always, kind, monkeypatch):
    """In bfloat16 products are rounded once, where torch rounds them for the next."""
    layer = ModFC(6, 7, code_features=3).float()
    states, codes = torch.randn(4, 5, 6).float(), torch.randn(5, 3).float()
    with torch.autocast("cpu", kind):
        found = layer(states, codes)
        assert always["rescale"] == (kind is torch.bfloat16)
        monkeypatch.setattr(modulated, "FEWEST", 2**62)
        assert (layer(states, codes) == found).all()
