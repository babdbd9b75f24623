"""Conditional circuits before training, and what a circuit is compared with."""

from dataclasses import replace

import pytest
import torch

from nacs.attentive import AttentiveCircuit, presets
from nacs.tokenizers import TokenizerConfig


def test_contexts_move_the_circuit_before_it_is_trained():
    """Else the picture is looked at in one way, whatever was said, for epochs."""
    told = TokenizerConfig(kind="tokens", width=64, vocabulary=40)
    sizes = replace(presets.tiny(), generator="conditional", context=told, width=64)
    model = AttentiveCircuit(sizes).eval()
    words = torch.randint(40, (64, 8))
    circuit = model.design(*model.context_tokenizer(words, None))
    for each in (circuit.processors.codes, circuit.processors.signatures):
        whole = each.flatten(0, 1).var(0).mean()
        # at a start from N(0, 1) it is 0.02; all of it would leave modules alike
        assert 0.1 < each.var(0).mean() / whole < 0.9


@pytest.mark.parametrize("rival", [presets.perceiver, presets.released])
def test_a_circuit_with_readers_has_rivals_without(rival):
    relay = replace(presets.tiny(), wiring="relay", readers=5)
    assert rival(relay) == rival(presets.tiny())
    AttentiveCircuit(rival(relay))
