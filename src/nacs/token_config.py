"""How an input becomes tokens: the sizes of `nacs.tokenizers`."""

from dataclasses import dataclass
from typing import Literal

from nacs.checks import check_least

__all__ = ["TokenizerConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """How an input becomes tokens."""

    kind: Literal[
        "conv", "patches", "points", "bytes", "tokens", "series", "frames"
    ] = "conv"
    """What the input is, and how it is cut."""

    width: int = 256
    """Width of the tokens, positions included."""

    channels: int = 3
    """Channels of an image or frame."""

    size: tuple[int, int] = (64, 64)
    """Height and width of an image or frame in pixels."""

    patch: int = 4
    """Side of a patch, or of the stem's first stride, in pixels."""

    stages: int = 2
    """Stages of the convolutional stem; each after the first halves the grid."""

    blocks: tuple[int, ...] = ()
    """ConvNeXt blocks of every stage of the stem, (): one in each but the last; or of
    bytes and tokens, by which neighbours are mixed, (): none."""

    positions: int = 64
    """Width of the learned positions that are concatenated to an image's tokens."""

    features: int = 0
    """Extra columns of a point, or value columns of a series."""

    bands: int = 8
    """Fourier frequencies of coordinates and of time."""

    vocabulary: int = 256
    """Number of symbols, for tokens."""

    length: int = 4096
    """Longest sequence of bytes or tokens; the slowest position wave spans it."""

    def __post_init__(self) -> None:
        check_least(self, 1, "channels", "patch", "stages", "vocabulary", "length")
        check_least(self, 0, "positions", "features", "bands")
        if min(self.size) < 1 or min(self.blocks, default=0) < 0:
            raise ValueError(
                "`size` must be positive and `blocks` 0 or more, got "
                f"{tuple(self.size)} and {tuple(self.blocks)}."
            )
        if self.kind in {"conv", "patches"}:
            step = self.patch * (2 ** (self.stages - 1) if self.kind == "conv" else 1)
            if any(side % step for side in self.size):
                raise ValueError(
                    f"`size` must be a multiple of {step} pixels for these patches "
                    f"and stages, got {self.size[0]} × {self.size[1]}."
                )
            if self.blocks and len(self.blocks) != self.stages:
                raise ValueError(
                    f"`blocks` must have a number a stage, got {self.blocks} for "
                    f"{self.stages} stages."
                )
            least = 2 ** (self.stages - 1) if self.kind == "conv" else 1
            if self.width - self.positions < least:
                raise ValueError(
                    f"`positions` must leave `width` {least} or more, got "
                    f"{self.positions} of {self.width}."
                )
        if self.kind in {"bytes", "tokens"} and len(self.blocks) > 1:
            raise ValueError(
                f"`blocks` of {self.kind} must be one number, got {self.blocks}."
            )
        if self.kind == "frames" and min(self.size) < 4:
            raise ValueError(
                f"frames must be 4 pixels high and wide or more, got {self.size[0]} × "
                f"{self.size[1]}."
            )
        if self.width < 1 or self.width % 2:
            raise ValueError(f"`width` must be even and positive, got {self.width}.")
