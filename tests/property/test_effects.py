"""Modules are ranked by what the loss loses with them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nacs.attentive import (
    AttentiveCircuit,
    drop_modules,
    effects,
    presets,
    ranked_by_effect,
)
from nacs.data.base import Batch
from nacs.evaluation import losses

TINY = presets.tiny()
KINDS = {
    "paper": TINY,
    "released": replace(TINY, wiring="released"),
    "relay": replace(TINY, wiring="relay", readers=3, states="seeded"),
    "Perceiver IO": presets.perceiver(TINY),
}


def made(config):
    """A circuit in which every module has something of its own to say."""
    torch.manual_seed(0)
    model = AttentiveCircuit(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    batch = Batch(torch.randn(5, 1, 8, 8), torch.randint(10, (5,)))
    return model, lambda circuit: losses(circuit, batch)


def gated(model, module, gate):
    """Multiply all that a processor sends."""

    def scaled(_layer, _inputs, values):
        weight = torch.ones(values.shape[-2], 1)
        weight[values.shape[-2] - model.config.modules + module] = gate
        return values * weight

    for layer in (*model.propagators, model.read_out):
        yield layer.attention.value.register_forward_hook(scaled)


@pytest.mark.parametrize("kind", KINDS)
def test_an_effect_is_the_slope_along_a_gate(kind):
    model, asked = made(KINDS[kind])
    found = effects(model, asked)
    step = 1e-5
    for module in (0, 7, 15):
        sides = []
        for gate in (1 + step, 1 - step):
            hooks = list(gated(model, module, gate))
            sides.append(asked(model).detach())
            for hook in hooks:
                hook.remove()
        slope = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(found[module], slope.square().mean())
    assert (found > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_that_nobody_hears_goes_first(kind):
    model, asked = made(KINDS[kind])
    list(gated(model, 6, 0.0))
    found = effects(model, asked)
    assert found[6] == 0
    assert (found > 0).sum() == 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_ranking_has_every_module_once_and_says_who_stays(kind):
    model, asked = made(KINDS[kind])
    model.train()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    ranking = ranked_by_effect(model, asked)
    assert sorted(ranking.tolist()) == list(range(16))
    assert model.training
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name])
    smaller = drop_modules(model, 5, order=ranking)
    stay = ranking[:5].sort().values
    states = model.generator(None, None).processors.states
    torch.testing.assert_close(
        smaller.generator(None, None).processors.states, states[stay]
    )


def test_the_first_to_go_is_the_least_and_the_rest_is_measured_anew():
    model, asked = made(TINY)
    ranking = ranked_by_effect(model, asked)
    assert ranking[-1] == effects(model, asked).argmin()
    rest = ranking[:-1].sort().values
    left = drop_modules(model, 15, order=ranking)
    assert ranking[-2] == rest[effects(left, asked).argmin()]


def test_frozen_weights_have_effects_too():
    model, asked = made(TINY)
    wanted = effects(model, asked)
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(effects(model, asked), wanted)


def test_losses_are_those_of_evaluation():
    model, _ = made(TINY)
    images, targets = torch.randn(4, 1, 8, 8), torch.tensor([0, 3, 9, 1])
    each = losses(model, Batch(images, targets))
    torch.testing.assert_close(each.mean(), F.cross_entropy(model(images), targets))
    numbers = torch.randn(4, 10)
    each = losses(model, Batch(images, numbers))
    torch.testing.assert_close(each.mean(), F.mse_loss(model(images), numbers))
    assert each.shape == (4,)


def test_bad_rankings():
    model, asked = made(TINY)
    with pytest.raises(ValueError, match="each of the 16 modules once, got"):
        drop_modules(model, 3, order=torch.tensor([0, 1, 1]))
    conditional = AttentiveCircuit(replace(TINY, generator="conditional"))
    with pytest.raises(ValueError, match='drops modules by "importance", got a rank'):
        drop_modules(conditional, 3, order=torch.arange(16))
    with pytest.raises(ValueError, match="modules of its own for every sample"):
        ranked_by_effect(conditional, asked)
