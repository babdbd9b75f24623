"""Presets have the parameters and multiply-adds of the released code, to the digit.

Source: data/reference_numbers.json; operations are twice the multiply-adds. Tolerance
none: these are counts.
"""

import json
from dataclasses import replace

import pytest
import torch

from cases import DATA
from nacs.attentive import AttentiveCircuit, presets
from nacs.flops import multiply_adds
from nacs.models import count_parameters

REFERENCE = json.loads((DATA / "reference_numbers.json").read_text())
TABLE_4, TABLE_5 = (
    next(value for key, value in REFERENCE["configs_batch1"].items() if start in key)
    for start in ("TINY table4 (", "IMAGENET table5")
)
TINY = replace(presets.released(presets.tiny_imagenet()), read_in="plain")
IMAGENET = replace(presets.released(presets.imagenet()), read_in="plain")


def build(config):
    with torch.device("meta"):
        return AttentiveCircuit(config)


def images(batch, size):
    return torch.empty(batch, 3, size, size, device="meta")


@pytest.mark.parametrize(
    ("config", "reference"), [(TINY, TABLE_4), (IMAGENET, TABLE_5)], ids=["4", "5"]
)
def test_parameters_by_part(config, reference):
    model = build(config)
    parts = reference["parts"]
    assert count_parameters(model) == reference["params"]
    ours = {
        "tokenizer": model.tokenizer,
        "input_latents": model.generator.inputs,
        "mediator_latents": model.generator.processors,
        "output_latents": model.generator.outputs,
        "read_in": model.read_in,
        "propagators": model.propagators,
    }
    for name, part in ours.items():
        assert count_parameters(part) == parts[name], name
    read_out = parts["read_out"] + parts["output_tokenizer"]
    assert count_parameters(model.read_out) == read_out


def test_parameters_of_the_paper_wiring():
    """One set of codes instead of two, and an MLP of two 384 × 384 layers for θ⁰."""
    mlp = 2 * (384 * 384 + 384)
    paper = count_parameters(build(presets.tiny_imagenet()))
    assert paper == TABLE_4["params"] - 320 * (384 + 64) + mlp


def test_parameters_of_perceiver_io():
    model = build(presets.perceiver(presets.tiny_imagenet()))
    assert count_parameters(model) == 23_011_240


@pytest.mark.parametrize(
    ("config", "reference", "size"),
    [(TINY, TABLE_4, 64), (IMAGENET, TABLE_5, 224)],
    ids=["4", "5"],
)
def test_operations_of_one_sample(config, reference, size):
    counted = multiply_adds(build(config), images(1, size))
    assert 2 * counted == reference["flops"]


def repeated_queries(batch, modules, outputs):
    """Operations a sample that the released code spends and we do not.

    It projects the same θ⁰ to queries for every sample of a batch, we once.
    """
    return (batch - 1) / batch * 2 * (modules + outputs) * 384 * 64


@pytest.mark.parametrize("kept", [320, 256, 192, 128, 96, 64, 32, 16])
def test_operations_with_modules_dropped(kept):
    counted = multiply_adds(build(replace(TINY, modules=kept)), images(64, 64))
    reference = REFERENCE["per_sample_by_batch"][f"tiny_U{kept}_B64"]["nac"]
    assert 2 * counted / 64 == reference - repeated_queries(64, kept, 64)


@pytest.mark.parametrize("batch", [1, 64])
def test_operations_of_perceiver_io(batch):
    config = replace(presets.perceiver(presets.tiny_imagenet()), read_in="plain")
    counted = multiply_adds(build(config), images(batch, 64))
    reference = REFERENCE["per_sample_by_batch"][f"tiny_pio_B{batch}"]
    assert 2 * counted / batch == reference - repeated_queries(batch, 320, 1)
