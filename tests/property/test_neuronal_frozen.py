"""A frozen neuronal model is the model: its numbers, masks and streams."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import nacs
from nacs.models import MODELS
from nacs.neuronal import NeuronalAttention, NeuronalConfig, neuronal_model, presets
from nacs.neuronal.inspect import observe
from nacs.neuronal.sparse import MaskedLinear

SMALL = NeuronalConfig(width=8, heads=2, top_k=3, inter=8, command=4)
OPTIONS = {
    "default": {},
    "gate": {"horizon": "gate", "integration": "gate", "start": "zero"},
    "elapsed": {"horizon": "elapsed"},
    "quadrature": {"integration": "quadrature", "top_k": 0},
    "circuit": {"gate": "circuit"},
    "dense": {"gate": "dense", "sparsity": 0.0},
    "euler": {"solver": "euler"},
    "score": {"solver": "score"},
}
options = pytest.mark.parametrize("change", OPTIONS.values(), ids=OPTIONS.keys())


def built(**changes):
    layer = NeuronalAttention(replace(SMALL, **changes))
    for parameter in layer.parameters():  # no start value may hide a mistake
        torch.nn.init.normal_(parameter, std=0.7)
    return layer.eval()


def series(count=9, batch=2):
    keep = torch.arange(count) < torch.tensor([[count], [count - 2]])[:batch]
    return torch.randn(batch, count, 8), torch.rand(batch, count).cumsum(1), keep


@options
@pytest.mark.parametrize("causal", [True, False])
def test_a_frozen_layer_gives_the_numbers_of_the_live_one(change, causal):
    layer = built(causal=causal, **change)
    before = {name: each.clone() for name, each in layer.state_dict().items()}
    frozen = nacs.freeze(layer)
    tokens, times, keep = series()
    given = {"query_times": times, "keep": keep, "need_weights": True}
    for mine, wanted in zip(
        frozen(tokens, **given), layer(tokens, **given), strict=True
    ):
        assert_close(mine, wanted, atol=1e-12, rtol=0)
    asked = torch.randn(2, 4, 8)
    crossed = {"query_times": times[:, :4], "key_times": times, "keep": keep}
    assert_close(
        frozen(asked, tokens, **crossed)[0],
        layer(asked, tokens, **crossed)[0],
        atol=1e-12,
        rtol=0,
    )
    assert before.keys() == layer.state_dict().keys()
    for name, each in layer.state_dict().items():
        assert torch.equal(each, before[name])


@options
def test_a_frozen_layer_streams(change):
    layer = built(causal=True, window=6, **change)
    frozen, (tokens, times, _) = nacs.freeze(layer), series()
    whole, state = layer(tokens, query_times=times)[0], None
    for place in range(9):
        out, state = frozen.step(tokens[:, place], times[:, place], state)
        assert_close(out, whole[:, place], atol=1e-12, rtol=0)


def test_nothing_is_masked_or_learned_any_more():
    model = neuronal_model(presets.tiny())
    frozen = nacs.freeze(model)
    assert not any(each.requires_grad for each in frozen.parameters())
    parts = [part for part in frozen.modules() if isinstance(part, MaskedLinear)]
    assert parts
    for part in parts:
        assert part.mask is None
        assert (part.weight == 0).any()
    assert all(part.fixed is not None for part in frozen.modules() if mixes(part))
    observed = torch.rand(3, 12, 1).cumsum(1)
    assert_close(frozen(observed), model.eval()(observed), atol=1e-12, rtol=0)
    assert model.blocks[0].mixer.attention.out.weight.requires_grad


def mixes(part):
    return isinstance(part, NeuronalAttention)


def test_a_frozen_layer_is_looked_into_like_a_live_one():
    layer, (tokens, _, _) = built(), series()
    for mine, wanted in zip(
        observe(nacs.freeze(layer), tokens), observe(layer, tokens), strict=True
    ):
        assert_close(mine, wanted, atol=1e-12, rtol=0)


def test_every_model_can_be_frozen():
    for name in ("attentive", "neuronal", "gru", "multi-head"):
        model = MODELS[name].build(MODELS[name].preset("tiny"))
        frozen = nacs.freeze(model)
        assert type(frozen) is type(model)
        assert not frozen.training
    with pytest.raises(ValueError, match="a context is for a circuit .* SequenceModel"):
        nacs.freeze(model, torch.zeros(1, 3))
    assert "freeze" in nacs.__all__
    with pytest.raises(AttributeError, match="has no attribute 'thaw'"):
        nacs.thaw  # noqa: B018  # pyright: ignore
