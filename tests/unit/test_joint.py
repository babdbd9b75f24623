"""Perceiver IO that reads an input and its context side by side."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from nacs.attentive import presets
from nacs.baselines.joint import JointPerceiver
from nacs.tokenizers import TokenizerConfig

WORDS = TokenizerConfig(kind="tokens", width=32, vocabulary=9)
SIZES = replace(presets.perceiver(presets.tiny()), context=WORDS)


def test_the_answer_depends_on_both_and_on_no_padding():
    model = JointPerceiver(SIZES).eval()
    images, words = torch.randn(3, 1, 8, 8), torch.randint(9, (3, 5))
    logits = model(images, context=words)
    assert not torch.allclose(logits, model(images, context=words.flip(0)))
    assert not torch.allclose(logits, model(images.flip(0), context=words))
    keep = torch.ones(3, 7, dtype=torch.bool)
    keep[:, 5:] = False
    longer = torch.cat([words, torch.randint(9, (3, 2))], 1)
    assert_close(model(images, context=longer, context_keep=keep), logits)


def test_without_a_context_it_is_a_perceiver():
    model = JointPerceiver(replace(SIZES, context=None)).eval()
    images = torch.randn(2, 1, 8, 8)
    assert_close(model(images), model.circuit(images))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="as wide as the input's, got 16 and 32"):
        JointPerceiver(replace(SIZES, context=replace(WORDS, width=16)))
    with pytest.raises(ValueError, match='generator="unconditional"'):
        JointPerceiver(replace(SIZES, generator="conditional"))
    with pytest.raises(ValueError, match="expected `context`"):
        JointPerceiver(SIZES)(torch.zeros(1, 1, 8, 8))
