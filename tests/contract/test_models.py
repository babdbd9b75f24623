"""What every model in the table must do, whatever it is."""

from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from nacs.errors import UserError
from nacs.models import MODELS, config_from_json, lookup
from nacs.tokenizers import TokenizerConfig

KINDS = {
    "image": (
        TokenizerConfig(
            kind="patches", width=32, channels=1, size=(8, 8), patch=2, positions=16
        ),
        lambda: torch.randn(4, 1, 8, 8),
    ),
    "points": (
        TokenizerConfig(kind="points", width=32, bands=2),
        lambda: torch.randn(4, 9, 3),
    ),
    "bytes": (
        TokenizerConfig(kind="bytes", width=32),
        lambda: torch.randint(256, (4, 9)),
    ),
    "tokens": (
        TokenizerConfig(kind="tokens", width=32, vocabulary=7),
        lambda: torch.randint(7, (4, 9)),
    ),
    "words": (
        TokenizerConfig(kind="tokens", width=32, vocabulary=7, blocks=(2,)),
        lambda: torch.randint(7, (4, 9)),
    ),
    "series": (
        TokenizerConfig(kind="series", width=32, features=2),
        lambda: torch.randn(4, 9, 3),
    ),
    "frames": (
        TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8)),
        lambda: torch.randn(4, 9, 81),
    ),
}
names = pytest.mark.parametrize("name", MODELS)
kinds = pytest.mark.parametrize("kind", KINDS)


def build(name, kind="image"):
    tokenizer, make = KINDS[kind]
    config = MODELS[name].preset("tiny")
    config = replace(config, tokenizer=tokenizer, classes=10)
    return MODELS[name].build(config), make()


@kinds
@names
def test_output_and_gradients(name, kind):
    model, inputs = build(name, kind)
    logits = model(inputs)
    assert logits.shape == (4, 10)
    F.cross_entropy(logits, torch.arange(4)).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and "inputs.signatures" not in key:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key


@kinds
@names
def test_batch_order_and_repeats(name, kind):
    model, inputs = build(name, kind)
    model.eval()
    order = torch.tensor([2, 0, 3, 1])
    assert_close(model(inputs)[order], model(inputs[order]))
    assert_close(model(inputs), model(inputs), atol=0, rtol=0)
    assert not torch.allclose(model(inputs)[0], model(inputs)[1])


@pytest.mark.parametrize(
    "kind", ["points", "bytes", "tokens", "words", "series", "frames"]
)
@names
def test_padding_never_changes_an_output(name, kind):
    model, inputs = build(name, kind)
    model.eval()
    keep = torch.ones(4, 12, dtype=torch.bool)
    keep[:, 9:] = False
    hole = torch.full((4, 3, *inputs.shape[2:]), 99 if kind == "bytes" else 5)
    if inputs.is_floating_point():
        hole = torch.full(hole.shape, torch.nan)
    padded = torch.cat([inputs, hole], 1)
    assert_close(model(padded, keep), model(inputs, keep[:, :9]))
    assert_close(model(padded, keep), model(inputs))
    keep[0, 4:] = False
    short = model(inputs[:1, :4])
    assert_close(model(padded, keep)[:1], short)


@names
def test_precision_and_state(name):
    model, inputs = build(name)
    model.eval()
    single = MODELS[name].build(model.config).eval()
    single.load_state_dict(model.state_dict())
    assert_close(single(inputs), model(inputs), atol=0, rtol=0)
    assert_close(
        single.float()(inputs.float()).double(), model(inputs), atol=1e-4, rtol=1e-3
    )


@names
def test_overfits_eight_examples(name):
    model, _ = build(name)
    inputs, targets = torch.randn(8, 1, 8, 8), torch.arange(8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    for _ in range(150):
        loss = F.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (model.eval()(inputs).argmax(-1) == targets).all()


@names
def test_configuration_survives_json(name):
    config = MODELS[name].preset("tiny")
    values = asdict(config)
    values["tokenizer"]["size"] = list(values["tokenizer"]["size"])
    assert config_from_json(MODELS[name].config, values) == config


def test_messages():
    with pytest.raises(UserError, match="did you mean 'perceiver'"):
        lookup("perciever")
    kind = MODELS["attentive"].config
    with pytest.raises(UserError, match="no field 'modulez'"):
        config_from_json(kind, {"modulez": 3})
    with pytest.raises(UserError, match="`modules` must be int, got 'many'"):
        config_from_json(kind, {"modules": "many"})
    with pytest.raises(UserError, match="`modules` must be at least 1"):
        config_from_json(kind, {"modules": 0})
