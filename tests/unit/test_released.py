"""Weights by the names of the released code become a circuit of ours.

Names: those of the checkpoints in the repository kamanphoebe/m2mKD of the Hub. Counts
and outputs: tests/golden/data, recorded from the released code.
"""

import json
import re

import pytest
import torch
from torch.testing import assert_close

from cases import DATA, load
from nacs import released
from nacs.errors import UserError

GRAPH = "latent_graphs.0."
NORMS = ("weight", "bias")
TINY = {
    "readers": 64,
    "modules": 256,
    "outputs": 64,
    "width": 384,
    "code": 384,
    "hidden": 768,
    "layers": 8,
    "classes": 200,
    "blocks": (3, 3),
    "grid": 8,
}
IMAGENET = {
    **TINY,
    "readers": 192,
    "modules": 768,
    "width": 512,
    "code": 512,
    "hidden": 512,
    "classes": 1000,
    "grid": 28,
}
SMALL = {
    "readers": 4,
    "modules": 7,
    "outputs": 3,
    "width": 16,
    "code": 8,
    "hidden": 32,
    "layers": 2,
    "classes": 5,
    "blocks": (1, 2),
    "grid": 2,
    "signature": 4,
    "positions": 4,
    "wide": 16,
    "top": 8,
}


def mod_fc(out, into, code, *, bias):
    shapes = {"native_weight": (out, into), "scale.weight": (into, code)}
    return shapes | {"scale_gain": ()} | ({"native_bias": (out,)} if bias else {})


def norm(width):
    return dict.fromkeys(NORMS, (width,))


def under(prefix, parts):
    return {f"{prefix}.{name}": shape for name, shape in parts.items()}


def attention(sizes, token_width, *, kernel, shared):
    width, code, wide = sizes["width"], sizes["code"], sizes.get("wide", sizes["width"])
    shapes = under("receiver_layernorm", norm(width))
    if not shared:
        shapes |= under("sender_layernorm", norm(token_width))
    shapes |= under("query_compiler", mod_fc(wide, width, code, bias=False))
    for name in ("key", "value"):
        fc = mod_fc(wide, token_width, code, bias=False)
        shapes |= under(f"{name}_compiler", fc)
    shapes |= under("exit_layer", mod_fc(width, wide, code, bias=True))
    shapes |= {"kernel.bandwidth": ()} if kernel else {}
    return shapes | {"layer_scale.gamma": (width,)}


def ffn(sizes):
    width, hidden, code = sizes["width"], sizes["hidden"], sizes["code"]
    shapes = under("layernorm", norm(width)) | {"layer_scale.gamma": (width,)}
    shapes |= under("ffn.0", mod_fc(2 * hidden, width, code, bias=True))
    return shapes | under("ffn.2", mod_fc(width, hidden, code, bias=True))


def tokenizer(sizes):
    top, positions = sizes.get("top", sizes["width"] // 2), sizes.get("positions", 64)
    widths, grid = (top // 2, top), sizes["grid"]
    backbone = {}
    for stage, width in enumerate(widths):
        before, side = (3, 4) if stage == 0 else (widths[0], 2)
        conv = {"weight": (width, before, side, side), "bias": (width,)}
        layers = [conv, norm(width)] if stage == 0 else [norm(before), conv]
        for place, layer in enumerate(layers):
            backbone |= under(f"downsample_layers.{stage}.{place}", layer)
        for block in range(sizes["blocks"][stage]):
            inner = {"dwconv.weight": (width, 1, 7, 7), "dwconv.bias": (width,)}
            inner |= under("norm", norm(width)) | {"gamma": (width,)}
            wide = {"weight": (4 * width, width), "bias": (4 * width,)}
            narrow = {"weight": (width, 4 * width), "bias": (width,)}
            inner |= under("pwconv1", wide) | under("pwconv2", narrow)
            backbone |= under(f"stages.{stage}.{block}", inner)
    shapes = under("input_tokenizer.backbone", backbone)
    return shapes | {"input_tokenizer.positional_grid.grid": (positions, grid, grid)}


def checkpoint(sizes, device="cpu"):
    """Made-up weights by the names and in the shapes of a released checkpoint."""
    width, code = sizes["width"], sizes["code"]
    tokens = sizes.get("top", width // 2) + sizes.get("positions", 64)
    graph = {}
    groups = {"input": "readers", "mediator": "modules", "output": "outputs"}
    for group, count in groups.items():
        graph[f"{group}_latents.codes_"] = (sizes[count], code)
        graph[f"{group}_latents.signatures_"] = (
            sizes[count],
            sizes.get("signature", 64),
        )
    graph |= under("latent_seeder.layernorm", norm(code))
    for name in ("mu", "logvar"):
        linear = {"weight": (width, code), "bias": (width,)}
        graph |= under(f"latent_seeder.code_to_state_{name}", linear)
    read = attention(sizes, tokens, kernel=False, shared=False)
    graph |= under("read_in.read_in_attention", read) | under("read_in.ffn", ffn(sizes))
    for index in range(sizes["layers"]):
        inner = attention(sizes, width, kernel=True, shared=True)
        graph |= under(f"propagators.{index}.latent_attention", inner)
        graph |= under(f"propagators.{index}.ffn", ffn(sizes))
    out = attention(sizes, width, kernel=True, shared=False)
    graph |= under("read_out.latent_attention", out) | under("read_out.ffn", ffn(sizes))
    shapes = {GRAPH + name: shape for name, shape in graph.items()} | tokenizer(sizes)
    answers = {"confidence_scorer.weight": (1, width), "confidence_scorer.bias": (1,)}
    answers |= {"to_logits.weight": (sizes["classes"], width)}
    answers |= {"to_logits.bias": (sizes["classes"],)}
    shapes |= under("output_tokenizer", answers)
    return {name: torch.randn(shape, device=device) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("nac_scale_tinyimnet", TINY), ("nac_scale_imnet", IMAGENET)],
)
def test_a_checkpoint_of_the_published_shape_is_taken_whole(name, sizes):
    """As many parameters as the released classes have, but those of the noise."""
    text = (DATA / "reference_numbers.json").read_text()
    recorded = json.loads(text)["configs_batch1"][f"m2mKD {name}"]
    state = checkpoint(sizes, device="meta")
    assert sum(each.numel() for each in state.values()) == recorded["params"]
    model = released.convert(state)
    noise = sizes["width"] * (sizes["code"] + 1)
    count = sum(each.numel() for each in model.parameters())
    assert count == recorded["params"] - noise
    config = model.config
    side = 8 * sizes["grid"]
    assert config.tokenizer.size == (side, side)
    assert (config.heads, config.edge_heads) == (sizes["width"] // 64,) * 2
    assert (config.truncation, config.gated) == (0.9, True)


SHORT = (
    (r"^readin\.attn", "read_in.read_in_attention"),
    (r"^readin\.ffn", "read_in.ffn"),
    (r"^prop(\d)\.attn", r"propagators.\1.latent_attention"),
    (r"^prop(\d)\.ffn", r"propagators.\1.ffn"),
    (r"^readout\.attn", "read_out.latent_attention"),
    (r"^readout\.ffn", "read_out.ffn"),
    (r"\.ln_recv\.", ".receiver_layernorm."),
    (r"\.ln_send\.", ".sender_layernorm."),
    (r"\.ln\.", ".layernorm."),
    (r"layernorm\.gamma", "layernorm.weight"),
    (r"layernorm\.beta", "layernorm.bias"),
    (r"\.q\.", ".query_compiler."),
    (r"\.k\.", ".key_compiler."),
    (r"\.v\.", ".value_compiler."),
    (r"\.o\.", ".exit_layer."),
    (r"\.fc1\.", ".ffn.0."),
    (r"\.fc2\.", ".ffn.2."),
    (r"\.W_c$", ".scale.weight"),
    (r"\.W$", ".native_weight"),
    (r"\.b$", ".native_bias"),
    (r"\.alpha$", ".scale_gain"),
    (r"\.lscale$", ".layer_scale.gamma"),
    (r"\.epsilon$", ".kernel.bandwidth"),
)
PLAIN = {
    "c_in": "input_latents.codes_",
    "s_in": "input_latents.signatures_",
    "c_p": "mediator_latents.codes_",
    "s_p": "mediator_latents.signatures_",
    "c_o": "output_latents.codes_",
    "s_o": "output_latents.signatures_",
    "seed.ln.gamma": "latent_seeder.layernorm.weight",
    "seed.ln.beta": "latent_seeder.layernorm.bias",
    "seed.W": "latent_seeder.code_to_state_mu.weight",
    "seed.b": "latent_seeder.code_to_state_mu.bias",
}
ANSWERS = {
    "pool.w_conf": "confidence_scorer.weight",
    "pool.b_conf": "confidence_scorer.bias",
    "pool.W": "to_logits.weight",
    "pool.b": "to_logits.bias",
}


def recorded_checkpoint(case):
    """The weights of a recorded circuit by the names of the released code."""
    state = checkpoint(SMALL)
    for name, value in case.items():
        if name in ANSWERS:
            theirs = f"output_tokenizer.{ANSWERS[name]}"
        elif name in PLAIN:
            theirs = GRAPH + PLAIN[name]
        elif re.match(r"(readin|prop\d|readout)\.", name):
            theirs = GRAPH + name
            for short, long in SHORT:
                theirs = re.sub(short, long, theirs.removeprefix(GRAPH))
            theirs = GRAPH + theirs
        else:
            continue
        assert state[theirs].shape == value.shape, theirs
        state[theirs] = value
    return state


@pytest.mark.parametrize("name", ["alt_wiring", "alt_wiring_trunc"])
def test_a_recorded_circuit_answers_as_the_released_code_did(name):
    case = load("latent_graph", name)
    model = released.convert(
        recorded_checkpoint(case), head_width=8, truncation=case.meta["truncation"]
    )
    logits = model.execute(model.design(), case["X"])
    # float64 over three layers
    assert_close(logits, case["logits"], atol=1e-10, rtol=0)


def test_the_tokenizer_makes_the_tokens_that_the_released_one_did():
    case = load("tokenizer", "femto_2stage")
    sizes = SMALL | {"blocks": (1, 0), "positions": 6, "top": 8}
    state = checkpoint(sizes)
    places = {"stem.conv": "downsample_layers.0.0", "stem.ln": "downsample_layers.0.1"}
    places |= {"down1.ln": "downsample_layers.1.0"}
    places |= {"down1.conv": "downsample_layers.1.1", "stage0.block0": "stages.0.0"}
    given = 0
    for ours, theirs in places.items():
        for name, value in case.under(ours).items():
            state[f"input_tokenizer.backbone.{theirs}.{name}"] = value
            given += 1
    state["input_tokenizer.positional_grid.grid"] = case["E_pos"]
    assert given == 17
    model = released.convert(state, head_width=8)
    # float64 over three convolutions
    assert_close(model.tokenizer(case["image"])[0], case["X"], atol=1e-10, rtol=0)


def test_a_file_is_read_without_running_what_is_in_it(tmp_path):
    state = checkpoint(SMALL)
    torch.save(state, tmp_path / "small.pth")
    model = released.load(tmp_path / "small.pth", head_width=8)
    assert_close(
        model.generator.processors.codes.detach(),
        state[f"{GRAPH}mediator_latents.codes_"],
    )
    marker = tmp_path / "ran"
    torch.save({"weights": Evil(marker)}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth: expected weights saved by torch"):
        released.load(tmp_path / "evil.pth")
    assert not marker.exists()
    with pytest.raises(UserError, match="no such file"):
        released.load(tmp_path / "absent.pth")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_what_does_not_fit_gets_one_message():
    state = checkpoint(SMALL)

    def refused(changed, match, **options):
        with pytest.raises(UserError, match=match) as error:
            released.convert(changed, **{"head_width": 8} | options)
        assert "\n" not in str(error.value)

    gain = f"{GRAPH}propagators.1.ffn.ffn.2.scale_gain"
    less = {name: each for name, each in state.items() if name != gain}
    refused(less, rf"1 missing, the first {gain}")
    refused(state | {"head.bias": torch.zeros(1)}, "1 unknown, the first head.bias")
    both = less | {"head.bias": torch.zeros(1)}
    refused(both, "1 missing, the first .*; 1 unknown, the first head.bias")
    codes = f"{GRAPH}output_latents.signatures_"
    refused(state | {codes: torch.zeros(3, 9)}, r"signatures_ is \(3, 9\), expected")
    refused({}, "expected latent_graphs.0.mediator_latents.codes_ with 2 axes")
    refused(state | {gain: 0.1}, "expected tensors by name")
    refused([1], "expected tensors by name")
    refused(state, "`head_width` must divide .* 16, got 5", head_width=5)
