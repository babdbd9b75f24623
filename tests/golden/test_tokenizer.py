"""The convolutional stem equals the released code's.

Source: github.com/mweiss17/NeuralAttentiveCircuits@41ae372, recorded 2026-11-23; the
tolerance is float64 over three convolutions.
"""

import pytest
from torch.testing import assert_close

from cases import fill, load
from nacs.tokenizers import ConvStem, TokenizerConfig


def names_of(stages, blocks):
    """Names of the recorded layers in the order ours stand in."""
    names = []
    for stage in range(stages):
        head = f"down{stage}" if stage else "stem"
        names += [f"{head}.ln", f"{head}.conv"] if stage else ["stem.conv", "stem.ln"]
        names += [f"stage{stage}.block0"] * blocks[stage]
    return names


@pytest.mark.parametrize(
    ("name", "stages", "blocks"),
    [("femto_2stage", 2, (1, 0)), ("nano_3stage", 3, (1, 1, 1))],
)
def test_tokenizer(name, stages, blocks):
    case = load("tokenizer", name)
    positions = case["E_pos"]
    config = TokenizerConfig(
        kind="conv",
        width=case["X"].shape[-1],
        size=tuple(case["image"].shape[-2:]),
        stages=stages,
        blocks=blocks,
        positions=len(positions),
    )
    stem = ConvStem(config)
    fill(stem.positions, positions)
    inner = {"depthwise": "dwconv", "norm": "norm"}
    inner |= {"expand": "pwconv1", "contract": "pwconv2"}
    for layer, theirs in zip(stem.features, names_of(stages, blocks), strict=True):
        part = case.under(theirs)
        if "gamma" in part:
            fill(layer.gain, part["gamma"])
            layers = [(getattr(layer, a), b + ".") for a, b in inner.items()]
        else:
            layers = [(layer, "")]
        for each, prefix in layers:
            fill(each.weight, part[f"{prefix}weight"])
            fill(each.bias, part[f"{prefix}bias"])
    assert_close(stem.features(case["image"]), case["features"], atol=1e-10, rtol=0)
    assert_close(stem(case["image"])[0], case["X"], atol=1e-10, rtol=0)
