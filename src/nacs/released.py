"""The weights that are public of the first paper, as a circuit of ours.

    .pth → names and shapes → AttentiveConfig → AttentiveCircuit with those weights

They are in the relay wiring and in the repository `kamanphoebe/m2mKD` of the Hugging
Face Hub. Two things that the released code does in evaluation too are left out, so that
an answer is the same each time: noise on the modules' initial states, and Gumbel noise
on the confidences of the read-out.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nacs.attentive import AttentiveCircuit, AttentiveConfig
from nacs.errors import UserError
from nacs.tokenizers import TokenizerConfig

__all__ = ["convert", "load"]

GRAPH = "latent_graphs.0."
STEM = "input_tokenizer.backbone."
NOISE = f"{GRAPH}latent_seeder.code_to_state_logvar."

RENAMED = (
    (r"^generator\.inputs\.(\w+)", rf"{GRAPH}input_latents.\1_"),
    (r"^generator\.processors\.(\w+)", rf"{GRAPH}mediator_latents.\1_"),
    (r"^generator\.outputs\.(\w+)", rf"{GRAPH}output_latents.\1_"),
    (r"^generator\.to_state\.0", f"{GRAPH}latent_seeder.layernorm"),
    (r"^generator\.to_state\.1", f"{GRAPH}latent_seeder.code_to_state_mu"),
    (r"^read_out\.confidence", "output_tokenizer.confidence_scorer"),
    (r"^read_out\.to_logits", "output_tokenizer.to_logits"),
    (r"^tokenizer\.positions", "input_tokenizer.positional_grid.grid"),
    (r"^read_in\.attention", f"{GRAPH}read_in.read_in_attention"),
    (r"^(propagators\.\d+|read_out)\.attention", rf"{GRAPH}\1.latent_attention"),
    (r"^(propagators\.\d+|read_in|read_out)\.ffn", rf"{GRAPH}\1.ffn"),
    (r"\.receiver_norm", ".receiver_layernorm"),
    (r"\.(sender_norm|token_norm)", ".sender_layernorm"),
    (r"\.ffn\.norm", ".ffn.layernorm"),
    (r"\.(query|key|value)\.", r".\1_compiler."),
    (r"\.out\.", ".exit_layer."),
    (r"\.expand\.", ".ffn.0."),
    (r"\.contract\.", ".ffn.2."),
    (r"\.linear\.(weight|bias)", r".native_\1"),
    (r"\.code_to_scale\.", ".scale."),
    (r"\.gain$", ".scale_gain"),
    (r"\.layer_scale\.factors", ".layer_scale.gamma"),
    (r"\.links\.bandwidth", ".kernel.bandwidth"),
)
"""Parts of our names and of theirs, in the order in which they are replaced."""

BLOCK = {
    "depthwise.": "dwconv.",
    "norm.": "norm.",
    "expand.": "pwconv1.",
    "contract.": "pwconv2.",
    "gain": "gamma",
}
"""Of a ConvNeXt block of the tokenizer."""


def load(
    path: Path, *, head_width: int = 64, truncation: float | None = 0.9
) -> AttentiveCircuit:
    """The circuit of a file of released weights; see `convert`.

    The file is a pickle, of which nothing but tensors is read.

    Raises:
        UserError: If there is no such file, or it holds no such weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except Exception as error:  # torch raises half a dozen kinds
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: expected weights saved by torch, and no more than those, got "
            f"{first}"
        ) from error
    try:
        return convert(state, head_width=head_width, truncation=truncation)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def convert(
    state: Any,
    *,
    head_width: int = 64,
    truncation: float | None = 0.9,
) -> AttentiveCircuit:
    """A circuit, in evaluation mode, with released weights.

    Args:
        state: Tensors by the names of the released code, as a mapping.
        head_width: Width of one attention head, which no shape tells.
        truncation: Largest signature distance at which a link exists; likewise.

    Returns:
        A circuit whose tensors are those of `state`, not copies.

    Raises:
        UserError: If a name is missing or unknown, or a shape does not fit.
    """
    if not isinstance(state, Mapping) or not all(
        isinstance(each, Tensor) for each in state.values()
    ):
        raise UserError("expected tensors by name, got something else.")
    config = _config(state, head_width, truncation)
    with torch.device("meta"):
        expected = AttentiveCircuit(config).state_dict()
    labels = expected.pop("labels")
    names = {name: _their_name(name, config.tokenizer) for name in expected}
    _check(state, {names[name]: each.shape for name, each in expected.items()})
    model = AttentiveCircuit(config)
    own = {name: state[names[name]] for name in expected}
    own["labels"] = torch.arange(len(labels))
    model.load_state_dict(own, assign=True)
    return model.eval()


def _their_name(name: str, tokenizer: TokenizerConfig) -> str:
    """The released code's name for one of our tensors."""
    if name.startswith("tokenizer.features."):
        _, _, layer, inside = name.split(".", 3)
        place = _stem(tokenizer)[int(layer)]
        if place.startswith("stages."):
            for ours, theirs in BLOCK.items():
                inside = re.sub(rf"^{re.escape(ours)}", theirs, inside)
        return f"{STEM}{place}.{inside}"
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return name


def _stem(tokenizer: TokenizerConfig) -> list[str]:
    """Where the released code has the layers of our stem, in our order."""
    places: list[str] = []
    for stage, count in enumerate(tokenizer.blocks):
        places += [f"downsample_layers.{stage}.{layer}" for layer in (0, 1)]
        places += [f"stages.{stage}.{block}" for block in range(count)]
    return places


def _config(
    state: Mapping[str, Tensor], head_width: int, truncation: float | None
) -> AttentiveConfig:
    """The sizes of released weights, read off their shapes."""

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        found = tuple(state[name].shape) if name in state else "none of that name"
        if len(found) != axes or isinstance(found, str):
            raise UserError(
                f"not the released weights: expected {name} with {axes} axes, got "
                f"{found}."
            )
        return found

    def heads(name: str) -> int:
        wide = shape(f"{GRAPH}{name}.query_compiler.native_weight")[0]
        if wide % head_width:
            raise UserError(
                f"`head_width` must divide the width of the queries, {wide}, got "
                f"{head_width}."
            )
        return wide // head_width

    modules, code = shape(f"{GRAPH}mediator_latents.codes_")
    wide, width = shape(f"{GRAPH}read_in.ffn.ffn.0.native_weight")
    hidden = shape(f"{GRAPH}read_in.ffn.ffn.2.native_weight")[1]
    return AttentiveConfig(
        tokenizer=_tokenizer(state, shape),
        classes=shape("output_tokenizer.to_logits.weight")[0],
        modules=modules,
        outputs=shape(f"{GRAPH}output_latents.codes_")[0],
        readers=shape(f"{GRAPH}input_latents.codes_")[0],
        width=width,
        code=code,
        signature=shape(f"{GRAPH}mediator_latents.signatures_")[1],
        layers=_count(state, rf"{GRAPH}propagators\.(\d+)\."),
        heads=heads("propagators.0.latent_attention"),
        head_width=head_width,
        edge_heads=heads("read_in.read_in_attention"),
        hidden=hidden,
        gated=wide == 2 * hidden,
        layer_scale=1.0,
        wiring="relay",
        states="seeded",
        regulariser="repulsion",
        learnable_bandwidth=True,
        truncation=truncation,
    )


def _tokenizer(state: Mapping[str, Tensor], shape: Any) -> TokenizerConfig:
    """The sizes of the released tokenizer."""
    stages = _count(state, rf"{STEM}downsample_layers\.(\d+)\.")
    _, channels, patch, _ = shape(f"{STEM}downsample_layers.0.0.weight", axes=4)
    last = f"{STEM}downsample_layers.{max(0, stages - 1)}.{int(stages > 1)}.bias"
    positions, height, width = shape("input_tokenizer.positional_grid.grid", axes=3)
    step = patch * 2 ** (stages - 1)
    return TokenizerConfig(
        kind="conv",
        width=shape(last, axes=1)[0] + positions,
        channels=channels,
        size=(height * step, width * step),
        patch=patch,
        stages=stages,
        blocks=tuple(
            _count(state, rf"{STEM}stages\.{stage}\.(\d+)\.") for stage in range(stages)
        ),
        positions=positions,
    )


def _count(state: Iterable[str], pattern: str) -> int:
    """How many numbers there are in the place that the pattern has for one."""
    return len({found[1] for name in state if (found := re.match(pattern, name))})


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    """Raise UserError for tensors that are missing, unknown, or of another shape."""
    missing = [name for name in expected if name not in state]
    unknown = [
        name for name in state if name not in expected and not name.startswith(NOISE)
    ]
    wrong = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    found = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    told = [
        f"{len(names)} {what}, the first {names[0]}"
        for what, names in found.items()
        if names
    ]
    if told:
        raise UserError(f"not the released weights: {'; '.join(told)}.")
