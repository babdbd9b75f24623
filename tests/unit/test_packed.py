"""Packed weights give the numbers of plain ones, where they are used at all."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nacs.attentive import AttentiveCircuit, drop_modules, freeze, presets
from nacs.packed import FEWEST, OPERATORS, PackedLinear, pack

pytestmark = pytest.mark.skipif(
    not hasattr(OPERATORS, "_reorder_linear_weight"),
    reason="this torch has no operators for packed weights",
)


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def layers(bias=True):
    plain = nn.Linear(256, 384, bias=bias).requires_grad_(requires_grad=False)
    return plain, PackedLinear(plain, 16)


def exactly(layer, states):
    """In float64."""
    bias = None if layer.bias is None else layer.bias.double()
    return nn.functional.linear(states.double(), layer.weight.double(), bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(256,), (1, 256), (16, 256), (2, 3, 40, 256)])
def test_the_same_numbers(bias, shape):
    plain, packed = layers(bias)
    states = torch.randn(shape)
    with torch.inference_mode():
        # sums of 256 products of deviation 1/16 · 1/√3: rounding of 1e-6
        assert_close(packed(states).double(), exactly(plain, states), atol=1e-5, rtol=0)
        aside = torch.randn(256, 24).T
        assert_close(packed(aside).double(), exactly(plain, aside), atol=1e-5, rtol=0)


def calls(monkeypatch):
    seen = []
    original = OPERATORS._linear_pointwise
    monkeypatch.setattr(
        "nacs.packed.OPERATORS._linear_pointwise",
        lambda *given: (seen.append(1), original(*given))[1],
    )
    return seen


def test_packed_weights_are_used_only_where_they_fit(monkeypatch):
    plain, packed = layers()
    seen, states = calls(monkeypatch), torch.randn(16, 256)
    packed(states)
    assert len(seen) == 1
    asked = states.clone().requires_grad_()
    packed(asked).sum().backward()
    assert_close(asked.grad, plain.weight.sum(0).expand(16, 256))
    with torch.autocast("cpu", torch.bfloat16):
        assert packed(states).dtype == torch.bfloat16
    copied = copy.deepcopy(packed).double()
    assert_close(copied(states.double()), exactly(plain, states))
    assert_close(copy.deepcopy(copied)(states.double()), exactly(plain, states))
    assert len(seen) == 1
    copy.deepcopy(packed)(states)
    assert len(seen) == 2
    for layer in (plain, packed):
        with pytest.raises(RuntimeError, match="same dtype"):
            layer(states.bfloat16())


def test_half_precision_is_packed_again(monkeypatch):
    """Where the processor can: elsewhere the weights stay as they are."""
    able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    plain, packed = layers()
    wanted, seen = exactly(plain, torch.ones(16, 256)), calls(monkeypatch)
    half = copy.deepcopy(packed).bfloat16()
    answer = half(torch.ones(16, 256, dtype=torch.bfloat16))
    assert len(seen) == able
    assert answer.dtype == torch.bfloat16
    # weights of 8 bits, below 1/16: 256 roundings of at most 2⁻¹³
    assert_close(answer.double(), wanted, atol=0.02, rtol=0.01)
    back = half.float()(torch.ones(16, 256))
    assert_close(back.double(), exactly(half, torch.ones(16, 256)), atol=1e-5, rtol=0)
    assert len(seen) == 1 + able
    assert packed.to("meta").packed is None


def test_other_weights_are_not_answered_with_the_old():
    (plain, packed), (other, _) = layers(), layers()
    states = torch.randn(16, 256)
    before = packed(states)
    packed.load_state_dict(other.state_dict())
    assert_close(packed(states), other(states))
    assert not torch.allclose(packed(states), before)
    assert packed.state_dict().keys() == plain.state_dict().keys()


def test_small_layers_and_few_rows_stay_plain():
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 8), nn.ReLU())
    pack(model, FEWEST - 1)
    assert not any(isinstance(part, PackedLinear) for part in model)
    pack(model, FEWEST)
    assert [isinstance(part, PackedLinear) for part in model] == [True, False, False]
    double = nn.Sequential(nn.Linear(256, 256)).double()
    pack(double, 16)
    assert not isinstance(double[0], PackedLinear)


def test_a_frozen_circuit_is_packed():
    model = AttentiveCircuit(presets.tiny_imagenet()).eval()
    model = drop_modules(model, 16)
    frozen, loose = freeze(model), freeze(model, packed=False)
    count = sum(isinstance(part, PackedLinear) for part in frozen.modules())
    # per propagator query and out, key and value, two of the feed-forward network
    assert count >= 6 * model.config.layers
    assert not any(isinstance(part, PackedLinear) for part in loose.modules())
    picture = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert_close(frozen(picture), loose(picture), atol=1e-5, rtol=0)
    assert type(model.read_out.to_logits) is nn.Linear
