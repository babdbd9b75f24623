"""Whole circuits beside other networks of table 4's sizes, one image and four.

Run:  make bench       (one thread; processor time; rounds in which all take turns)
All read the same 64 tokens of 256 channels, from the same convolutions; 320 latents of
384 channels, 6 heads of 64, 8 layers; only their own choices differ (perceiver-pytorch
has gated feed-forward networks four times as wide as the latents). Parameters and
multiply-adds stand beside the times.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nacs import freeze
from nacs.attentive import AttentiveCircuit, drop_modules, presets
from nacs.models import count_parameters
from nacs.tokenizers import build_tokenizer
from timing import figures, record

CONFIG = presets.tiny_imagenet()


class Rival(nn.Module):
    """Our tokenizer, then another network over its tokens."""

    def __init__(self, network, answer):
        super().__init__()
        self.tokenizer = build_tokenizer(CONFIG.tokenizer)
        self.network, self.answer = network, answer

    def forward(self, images):
        tokens, _ = self.tokenizer(images)
        return self.answer(self.network, tokens)


def perceiver_pytorch():
    """Perceiver of lucidrains' perceiver-pytorch: one reading, then the latents."""
    package = pytest.importorskip("perceiver_pytorch")
    network = package.Perceiver(
        input_channels=CONFIG.tokenizer.width,
        input_axis=1,
        fourier_encode_data=False,
        num_freq_bands=1,
        max_freq=1.0,
        depth=1,
        num_latents=CONFIG.modules,
        latent_dim=CONFIG.width,
        cross_heads=1,
        cross_dim_head=CONFIG.head_width,
        latent_heads=CONFIG.heads,
        latent_dim_head=CONFIG.head_width,
        self_per_cross_attn=CONFIG.layers,
        num_classes=CONFIG.classes,
    )
    return Rival(network, lambda made, tokens: made(tokens))


def transformers_perceiver():
    """PerceiverModel of Hugging Face's transformers, read out by a linear layer."""
    package = pytest.importorskip("transformers")
    sizes = package.PerceiverConfig(
        num_latents=CONFIG.modules,
        d_latents=CONFIG.width,
        d_model=CONFIG.tokenizer.width,
        num_blocks=1,
        num_self_attends_per_block=CONFIG.layers,
        num_self_attention_heads=CONFIG.heads,
        num_cross_attention_heads=1,
        self_attention_widening_factor=CONFIG.hidden // CONFIG.width,
        cross_attention_widening_factor=CONFIG.hidden // CONFIG.width,
        qk_channels=CONFIG.heads * CONFIG.head_width,
        v_channels=CONFIG.heads * CONFIG.head_width,
    )
    head = nn.Linear(CONFIG.width, CONFIG.classes)
    network = nn.ModuleList([package.PerceiverModel(sizes), head])

    def answer(made, tokens):
        return made[1](made[0](inputs=tokens).last_hidden_state.mean(1))

    return Rival(network, answer)


def transformer():
    """`nn.TransformerEncoder` on the tokens themselves, as deep and as wide."""
    layer = nn.TransformerEncoderLayer(
        CONFIG.width,
        CONFIG.heads,
        CONFIG.hidden,
        batch_first=True,
        norm_first=True,
        activation="gelu",
    )
    network = nn.ModuleList(
        [
            nn.Linear(CONFIG.tokenizer.width, CONFIG.width),
            nn.TransformerEncoder(layer, CONFIG.layers, enable_nested_tensor=False),
            nn.Linear(CONFIG.width, CONFIG.classes),
        ]
    )

    def answer(made, tokens):
        return made[2](made[1](made[0](tokens)).mean(1))

    return Rival(network, answer)


def counted(model, images):
    """Multiply-adds of matrix products; computed, since `transformers` asks values."""
    plain = copy.deepcopy(model).eval()
    if isinstance(plain, AttentiveCircuit):  # whose fused gradients are not counted
        plain.requires_grad_(requires_grad=False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain(images)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("batch", [1, 4])
def test_whole_models(batch):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    live = AttentiveCircuit(CONFIG)
    models: dict[str, nn.Module] = {
        "perceiver-pytorch": perceiver_pytorch(),
        "transformers": transformers_perceiver(),
        "nn.TransformerEncoder": transformer(),
        "perceiver io": AttentiveCircuit(presets.perceiver(CONFIG)),
        "nac": live,
        "nac, frozen": live,
        "nac, 80 % dropped, frozen": drop_modules(live, CONFIG.modules // 5),
    }
    images = torch.randn(batch, 3, 64, 64)
    sizes = {name: count_parameters(each) for name, each in models.items()}
    counts: dict[str, int] = {}
    for name, each in models.items():
        frozen = "frozen" in name  # packed products are hidden from the counter
        counted_one = freeze(each, packed=False) if frozen else each
        counts[name] = counted(counted_one, images)
        models[name] = freeze(each) if frozen else each.eval()
    with torch.inference_mode():
        error = (models["nac"](images) - models["nac, frozen"](images)).abs().max()
        assert error < 1e-4  # float32; in float64 the tests say 1e-10
        calls = {name: lambda m=each: m(images) for name, each in models.items()}
        found = figures(calls, multiply_adds=counts)
    reference = counts["perceiver-pytorch"]
    found["speedup_per_multiply_add"] = {
        name: ratio * counts[name] / reference
        for name, ratio in found["speedup"].items()
    }
    found |= {"parameters": sizes, "error": error.item()}
    record("perceivers", f"whole models, batch {batch}", found)
