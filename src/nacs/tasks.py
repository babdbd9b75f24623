"""From a data set to the tokenizer and preset that suit it."""

from collections.abc import Container
from dataclasses import replace

from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.tokenizers import TokenizerConfig

__all__ = ["default_preset", "tokenizer_for"]


def tokenizer_for(dataset: Dataset, like: TokenizerConfig) -> TokenizerConfig:
    """A tokenizer for this data as wide as `like`; `like` itself where it fits.

    Images get the convolutional stem where their sides allow it, else patches.
    """
    if dataset.kind == "image":
        channels, height, width = dataset.shape
        if like.kind in {"conv", "patches"}:
            fit = replace(like, channels=channels, size=(height, width))
            step = fit.patch * (2 ** (fit.stages - 1) if fit.kind == "conv" else 1)
            if height % step == 0 and width % step == 0:
                return fit
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
    if dataset.kind == "bytes":
        return TokenizerConfig(
            kind="bytes", width=like.width, length=max(1, dataset.shape[0])
        )
    if dataset.kind == "tokens":
        largest = max(int(each.max(initial=0)) for each in dataset.train.inputs)
        return TokenizerConfig(
            kind="tokens",
            width=like.width,
            vocabulary=largest + 1,
            length=dataset.shape[0],
        )
    raise UserError(f"no tokenizer for data of kind '{dataset.kind}'.")


def default_preset(dataset: Dataset, presets: Container[str]) -> str:
    """The preset for a data set when none was asked for.

    Args:
        dataset: Small images get a small model.
        presets: Names of a model's presets.
    """
    side = max(dataset.shape[1:]) if dataset.kind == "image" else 28
    name = "tiny" if side <= 8 else "demo" if side <= 28 else "small"
    return name if name in presets else "small"
