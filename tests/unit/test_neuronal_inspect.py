"""What is shown of a circuit is what the circuit did."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from nacs.draw import draw_circuit
from nacs.neuronal import NeuronalAttention, NeuronalConfig, compiled
from nacs.neuronal.inspect import observe, synapses

CONFIG = NeuronalConfig(width=16, heads=2, top_k=3, inter=8, command=4)


@pytest.mark.parametrize("top_k", [0, 3])
def test_observed_gates_are_those_of_the_layer(top_k, monkeypatch):
    # What passes between functions of torch can be watched.
    monkeypatch.setattr(compiled, "serves", lambda *_: False)
    layer = NeuronalAttention(replace(CONFIG, top_k=top_k))
    seen = []
    original = layer._solve
    layer._solve = lambda *given: (seen.append(given[:2]), original(*given))[1]
    tokens = torch.randn(2, 7, 16)
    layer(tokens)
    activity = observe(layer, tokens)
    assert_close(activity.drive, seen[0][0])
    assert_close(activity.time_constant, 1 / seen[0][1])
    assert activity.command.shape == (2, 2, 7, top_k or 7, 4)


def test_padding_is_not_observed():
    layer, tokens = NeuronalAttention(CONFIG), torch.randn(1, 9, 16)
    keep = torch.arange(9).expand(1, 9) < 5
    assert observe(layer, tokens, keep).chosen.max() < 5


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_causal_layer_is_not_seen_to_hear_later_tokens(top_k):
    layer = NeuronalAttention(replace(CONFIG, top_k=top_k, causal=True, window=4))
    tokens = torch.randn(1, 9, 16)
    activity = observe(layer, tokens)
    ago = torch.arange(9)[:, None] - activity.chosen
    near = (ago >= 0) & (ago < 4)
    alive = activity.alive.expand(near.shape)
    assert near[alive].all()
    wanted = torch.arange(1, 10).clamp(max=min(4, top_k or 9))
    assert (alive.sum(-1) == wanted).all()
    # what fills up carries no traffic: a layer that sees one key drives by that alone
    alone = NeuronalAttention(replace(CONFIG, top_k=top_k, causal=True, window=1))
    alone.load_state_dict(layer.state_dict())
    seen = observe(alone, tokens)
    own = seen.inter[seen.alive.expand(seen.chosen.shape)].abs().mean(0)
    flows = {(s.source, s.target): s for s in synapses(alone, seen)}
    for (source, _), synapse in flows.items():
        group, number = source.split()
        if group == "inter":
            flow = abs(synapse.weight) * own[int(number)].item()
            assert synapse.flow == pytest.approx(flow)


def test_synapses_are_those_of_the_wiring_and_sorted_by_traffic():
    layer, tokens = NeuronalAttention(CONFIG), torch.randn(1, 6, 16)
    activity = observe(layer, tokens)
    found = synapses(layer, activity)
    backbone = layer.backbone
    parts = (backbone.from_queries, backbone.from_keys, backbone.command)
    parts += (backbone.recurrent, backbone.motor)
    assert len(found) == sum(int(part.mask.sum()) for part in parts)
    assert [wire.flow for wire in found] == sorted(
        (w.flow for w in found), reverse=True
    )
    (wire,) = [w for w in found if w.source.startswith("inter")][:1]
    sender, receiver = int(wire.source.split()[1]), int(wire.target.split()[1])
    assert wire.weight == backbone.command.synapses[receiver, sender].item()
    busy = activity.inter[..., sender].abs().mean().item()
    assert wire.flow == pytest.approx(abs(wire.weight) * busy)


def test_a_control_has_no_circuit():
    layer = NeuronalAttention(replace(CONFIG, solver="score"))
    with pytest.raises(ValueError, match="has no circuit to look into"):
        observe(layer, torch.randn(1, 4, 16))


def test_the_picture(tmp_path):
    layer = NeuronalAttention(CONFIG)
    activity = observe(layer, torch.randn(1, 6, 16))
    draw_circuit(layer, activity, tmp_path / "x.png", title="a circuit")
    assert (tmp_path / "x.png").stat().st_size > 10_000
