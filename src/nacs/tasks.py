"""From a data set to the tokenizer, preset and answers that suit it."""

from collections.abc import Container
from dataclasses import replace
from typing import Any

from nacs.attentive import AttentiveConfig
from nacs.baselines.rivals import RivalConfig
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.neuronal import NeuronalModelConfig
from nacs.tokenizers import TokenizerConfig

__all__ = ["default_preset", "fitted", "tokenizer_for"]

MEMORY = 16
"""Keys that attention sees of a stream of frames, its own the last."""


def fitted(sizes: Any, dataset: Dataset) -> Any:
    """A model's configuration with the tokenizer and the answers of a data set.

    A circuit that is written from a context gets a tokenizer for the data's contexts,
    where they have any.

    Where every frame is asked about, every token is answered, and none hears a later
    one: such a model answers a stream as it answered in training.

    Raises:
        UserError: If every frame is asked about and the model would hear later ones.
    """
    sizes = replace(
        sizes,
        tokenizer=tokenizer_for(dataset, sizes.tokenizer),
        classes=dataset.outputs,
    )
    if dataset.context is not None and isinstance(sizes, AttentiveConfig):
        sizes = _told(sizes, dataset)
    if not dataset.dense:
        return sizes
    if isinstance(sizes, NeuronalModelConfig):
        attention = replace(sizes.attention, causal=True, window=MEMORY)
        return replace(sizes, pooling="none", attention=attention)
    if isinstance(sizes, RivalConfig):
        return replace(sizes, pooling="none", causal=True)
    raise UserError(
        f"{dataset.name}: every frame is asked about, expected a model that hears no "
        f"later ones, got {type(sizes).__name__}; give --model neuronal, or gru, lstm"
    )


def tokenizer_for(dataset: Dataset, like: TokenizerConfig) -> TokenizerConfig:
    """A tokenizer for this data as wide as `like`; `like` itself where it fits.

    Images get the convolutional stem where their sides allow it, else patches.
    """
    if dataset.kind == "image":
        channels, height, width = dataset.shape
        if like.kind in {"conv", "patches"}:
            step = like.patch * (2 ** (like.stages - 1) if like.kind == "conv" else 1)
            if height % step == 0 and width % step == 0:
                return replace(like, channels=channels, size=(height, width))
        side = next((p for p in (4, 2, 3, 5, 7) if not (height % p or width % p)), 1)
        return TokenizerConfig(
            kind="patches",
            width=like.width,
            channels=channels,
            size=(height, width),
            patch=side,
            positions=like.width // 4,
        )
    if dataset.kind == "points":
        features = dataset.shape[1] - 3
        return TokenizerConfig(kind="points", width=like.width, features=features)
    if dataset.kind == "series":
        features = dataset.shape[1] - 1
        return TokenizerConfig(kind="series", width=like.width, features=features)
    if dataset.kind == "frames":
        channels, height, width = dataset.frame
        return TokenizerConfig(
            kind="frames", width=like.width, channels=channels, size=(height, width)
        )
    if dataset.kind == "bytes":
        return TokenizerConfig(
            kind="bytes",
            width=like.width,
            blocks=_mixing(like),
            length=max(1, dataset.shape[0]),
        )
    if dataset.kind == "tokens":
        largest = max(
            int(each.max(initial=0))
            for split in (dataset.train, dataset.val, dataset.test)
            for each in split.inputs
        )
        return TokenizerConfig(
            kind="tokens",
            width=like.width,
            blocks=_mixing(like),
            vocabulary=largest + 1,
            length=dataset.shape[0],
        )
    raise UserError(f"no tokenizer for data of kind '{dataset.kind}'.")


def _mixing(like: TokenizerConfig) -> tuple[int, ...]:
    """Blocks that mix neighbouring symbols; those of a stem for images do not."""
    return like.blocks if like.kind in {"bytes", "tokens"} else ()


def _told(sizes: AttentiveConfig, dataset: Dataset) -> AttentiveConfig:
    """A circuit's configuration with a tokenizer for contexts, if it reads any."""
    contexts = dataset.train.contexts
    if contexts is None or not (sizes.generator == "conditional" or sizes.context):
        return sizes
    known = {"tokens": 1 + max(int(each.max()) for each in contexts), "bytes": 256}
    if dataset.context not in known:
        raise UserError(f"no tokenizer for contexts of kind '{dataset.context}'.")
    like = sizes.context or sizes.tokenizer
    context = TokenizerConfig(
        kind="bytes" if dataset.context == "bytes" else "tokens",
        width=like.width,
        blocks=_mixing(like),
        vocabulary=known[dataset.context],
        length=max(len(each) for each in contexts),
    )
    return replace(sizes, context=context)


def default_preset(dataset: Dataset, presets: Container[str]) -> str:
    """The preset for a data set when none was asked for.

    Args:
        dataset: Small images get a small model.
        presets: Names of a model's presets.
    """
    side = max(dataset.shape[1:]) if dataset.kind == "image" else 28
    name = "tiny" if side <= 8 else "demo" if side <= 28 else "small"
    return name if name in presets else "small"
