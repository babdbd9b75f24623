"""From what people have to tokens: images, points, bytes, symbols, series, frames.

Every tokenizer returns the tokens and the mask of those that are there (True means
keep; None where nothing is ragged). What padding holds never reaches a token.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2.1, appendix C.
    https://arxiv.org/abs/2210.08031
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nacs.checks import expect
from nacs.convnext import ChannelNorm, ConvNeXtBlock
from nacs.token_config import TokenizerConfig

__all__ = [
    "Bytes",
    "ConvStem",
    "Frames",
    "Patches",
    "Points",
    "Series",
    "TokenizerConfig",
    "build_tokenizer",
    "without_padding",
]

Tokens = tuple[Tensor, Tensor | None]


def build_tokenizer(config: TokenizerConfig) -> nn.Module:
    """The tokenizer of this configuration.

    Raises:
        ValueError: If there is no such kind; lists those there are.
    """
    kinds = {
        "conv": ConvStem,
        "patches": Patches,
        "points": Points,
        "bytes": Bytes,
        "tokens": Bytes,
        "series": Series,
        "frames": Frames,
    }
    if config.kind not in kinds:
        raise ValueError(
            f"there is no tokenizer '{config.kind}'; kinds: {', '.join(kinds)}."
        )
    return kinds[config.kind](config)


def _check(inputs: Tensor, rank: int, expected: str) -> None:
    if inputs.ndim != rank:
        raise ValueError(f"expected {expected}, got shape {tuple(inputs.shape)}.")


def _check_image(inputs: Tensor, config: TokenizerConfig) -> None:
    wanted = (config.channels, *config.size)
    if inputs.ndim != 4 or inputs.shape[1:] != wanted:
        raise ValueError(
            f"expected images of shape (batch, {', '.join(map(str, wanted))}), "
            f"got {tuple(inputs.shape)}."
        )


class ConvStem(nn.Module):
    """The paper's convolutional preprocessor with learned positions (appendix C).

    A strided convolution and a channel LayerNorm, a ConvNeXt block, then per further
    stage a LayerNorm and a strided convolution. As released, the last convolution has
    no norm after it, and the last stage no block unless it is the only one.

    Args:
        config: Uses channels, size, patch, stages, blocks, positions and width.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        stages = config.stages
        blocks = config.blocks or (1,) * max(1, stages - 1) + (0,) * (stages > 1)
        top = config.width - config.positions
        widths = [top // 2 ** (stages - 1 - stage) for stage in range(stages)]
        layers: list[nn.Module] = []
        before = config.channels
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            step = 2 if stage else config.patch
            down = nn.Conv2d(before, width, step, stride=step)
            norm = ChannelNorm(before if stage else width, eps=1e-6)
            layers += [norm, down] if stage else [down, norm]
            layers += [ConvNeXtBlock(width) for _ in range(count)]
            before = width
        self.features = nn.Sequential(*layers)
        step = config.patch * 2 ** (stages - 1)
        grid = (config.positions, *(side // step for side in config.size))
        self.positions = nn.Parameter(0.02 * torch.randn(grid))

    def forward(
        self,
        inputs: Float[Tensor, "batch channels height width"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Tokens:
        """Tokens row by row."""
        _check_image(inputs, self.config)
        features = self.features(inputs)
        positions = self.positions.expand(inputs.shape[0], *self.positions.shape)
        return torch.cat([features, positions], 1).flatten(2).mT, keep


class Patches(nn.Module):
    """Square patches, linearly embedded, with learned positions concatenated."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        side = config.patch
        tokens = (config.size[0] // side) * (config.size[1] // side)
        self.embed = nn.Conv2d(
            config.channels, config.width - config.positions, side, stride=side
        )
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, config.positions))

    def forward(
        self,
        inputs: Float[Tensor, "batch channels height width"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Tokens:
        """Tokens row by row."""
        _check_image(inputs, self.config)
        patches = self.embed(inputs).flatten(2).mT
        positions = self.positions.expand(inputs.shape[0], *self.positions.shape)
        return torch.cat([patches, positions], -1), keep


def _fourier(values: Tensor, frequencies: Tensor) -> Tensor:
    """Sines and cosines of every value at every frequency, on a last axis."""
    # Columns cut from wider rows are multiplied at a third of the speed.
    phase = _exact(values.contiguous()).unsqueeze(-1) * _exact(frequencies)
    phase = phase.flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], -1).to(values.dtype)


def _exact(values: Tensor) -> Tensor:
    """In float32 or better: half precision counts to 256."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _periods(bands: int) -> nn.Parameter:
    """Learned frequencies of waves whose periods start at 1, 2, 4 … steps."""
    return nn.Parameter(2 * math.pi * 2.0 ** -torch.arange(bands))


def without_padding(inputs: Tensor, keep: Tensor | None) -> Tensor:
    """Inputs (batch, tokens) or (batch, tokens, columns), 0 where they are padding."""
    if keep is None:
        return inputs
    expect("a mask", keep, inputs.shape[:2], torch.bool)
    return torch.where(keep if inputs.ndim == 2 else keep.unsqueeze(-1), inputs, 0)


class Points(nn.Module):
    """Points in space: coordinates, their Fourier features, extra columns."""

    frequencies: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        bands = math.pi * 2.0 ** torch.arange(config.bands)
        self.register_buffer("frequencies", bands)
        columns = 3 + config.features + 6 * config.bands
        self.embed = nn.Linear(columns, config.width)

    def forward(
        self,
        inputs: Float[Tensor, "batch points columns"],
        keep: Bool[Tensor, "batch points"] | None = None,
    ) -> Tokens:
        """One token a point; their order does not matter."""
        columns = 3 + self.config.features
        _check(inputs, 3, f"points of shape (batch, points, {columns})")
        if inputs.shape[-1] != columns:
            raise ValueError(
                f"expected {columns} columns a point (x, y, z and "
                f"{self.config.features} features), got {inputs.shape[-1]}."
            )
        inputs = without_padding(inputs, keep)
        waves = _fourier(inputs[..., :3], self.frequencies)
        return self.embed(torch.cat([inputs, waves], -1)), keep


class Bytes(nn.Module):
    """Symbols, embedded, plus sinusoidal positions (Vaswani et al. 2017).

    Where there are blocks, each mixes a symbol with the three before and after it.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.symbols = 256 if config.kind == "bytes" else config.vocabulary
        self.embed = nn.Embedding(self.symbols, config.width)
        self.mix = nn.ModuleList(
            ConvNeXtBlock(config.width, (1, 7)) for _ in range(sum(config.blocks))
        )

    def forward(
        self,
        inputs: Int[Tensor, "batch length"],
        keep: Bool[Tensor, "batch length"] | None = None,
    ) -> Tokens:
        """One token a symbol."""
        _check(inputs, 2, "symbols of shape (batch, length)")
        if inputs.is_floating_point():
            raise ValueError(f"expected integer symbols, got {inputs.dtype}.")
        inputs = without_padding(inputs, keep)
        # Neither a shape alone nor a program being traced has values to look at.
        known = not (inputs.is_meta or torch.compiler.is_compiling())
        if known and inputs.numel():
            low, high = inputs.min().item(), inputs.max().item()
            if low < 0 or high >= self.symbols:
                raise ValueError(
                    f"expected symbols from 0 to {self.symbols - 1}, got "
                    f"{low if low < 0 else high}."
                )
        embedded = self.embed(inputs.long())
        return self._mixed(embedded + self._positions(embedded), keep), keep

    def _mixed(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        for block in self.mix:
            row = without_padding(tokens, keep).mT.unsqueeze(-2)
            tokens = block(row).squeeze(-2).mT
        return tokens

    def _positions(self, like: Tensor) -> Tensor:
        length, width = like.shape[-2:]
        exact = torch.promote_types(like.dtype, torch.float32)
        place = torch.arange(length, device=like.device, dtype=exact)
        wave = torch.arange(0, width, 2, device=like.device, dtype=exact)
        slow = float(max(2, self.config.length))
        phase = place[:, None] * slow ** (-wave / width)
        return torch.cat([phase.sin(), phase.cos()], -1).to(like.dtype)


class Series(nn.Module):
    """Observations of a series: values, which are missing, and when they were made.

    `nacs.data` gives times in average steps of the training series. The waves' periods
    start at 1, 2, 4 … of them and are learned.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.frequencies = _periods(config.bands)
        columns = 1 + 2 * config.features + 2 * config.bands
        self.embed = nn.Linear(columns, config.width)

    def forward(
        self,
        inputs: Float[Tensor, "batch time columns"],
        keep: Bool[Tensor, "batch time"] | None = None,
    ) -> Tokens:
        """One token an observation; NaN is a missing value."""
        columns = 1 + self.config.features
        _check(inputs, 3, f"series of shape (batch, time, {columns})")
        if inputs.shape[-1] != columns:
            raise ValueError(
                f"expected {columns} columns (the time and {self.config.features} "
                f"values), got {inputs.shape[-1]}."
            )
        inputs = without_padding(inputs, keep)
        time, values = inputs[..., :1], inputs[..., 1:]
        seen = ~values.isnan()
        values = torch.where(seen, values, 0)
        waves = _fourier(time, self.frequencies)
        time = time / 2.0 ** (self.config.bands - 1)  # the longest period at the start
        parts = [time, values, seen.to(values.dtype), waves]
        return self.embed(torch.cat(parts, -1)), keep


class Frames(nn.Module):
    """Pictures in time: strided convolutions and the waves of `Series`.

    A token a frame. The time enters by its waves alone: in a stream it never ends.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.frequencies = _periods(config.bands)
        self.features = nn.Sequential(
            nn.Conv2d(config.channels, 24, 8, stride=4, padding=2),
            nn.GELU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
        )
        places = math.prod(-(-(side // 4) // 4) for side in config.size)
        self.embed = nn.Linear(64 * places + 2 * config.bands, config.width)

    def forward(
        self,
        inputs: Float[Tensor, "batch time columns"],
        keep: Bool[Tensor, "batch time"] | None = None,
    ) -> Tokens:
        """One token a frame; column 0 is its time stamp."""
        shape = (self.config.channels, *self.config.size)
        columns = 1 + math.prod(shape)
        _check(inputs, 3, f"frames of shape (batch, time, {columns})")
        if inputs.shape[-1] != columns:
            raise ValueError(
                f"expected {columns} columns (the time and {shape[0]} × {shape[1]} × "
                f"{shape[2]} pixels), got {inputs.shape[-1]}."
            )
        inputs = without_padding(inputs, keep)
        pixels = inputs[..., 1:].reshape(-1, *shape)
        seen = self.features(pixels).unflatten(0, inputs.shape[:2])
        waves = _fourier(inputs[..., :1], self.frequencies)
        return self.embed(torch.cat([seen, waves], -1)), keep
