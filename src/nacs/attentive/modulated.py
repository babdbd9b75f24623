"""Layers that every module shares and each module bends with its own code."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.native.modulate import geglu, plain_geglu, rescale
from nacs.native.parts import usable

__all__ = ["LayerScale", "ModFC", "ModFFN"]


class ModFC(nn.Module):
    """Linear layer whose input channels are rescaled by a code (modulated FC).

    All modules share W and b; a module's code c decides which channels it hears:

        y = W (x ⊙ (1 + α LayerNorm(W_c c))) + b                    (eq 1)

    Modules with equal codes compute the same function, and the parameter count does
    not depend on the number of modules. α = 0 gives a plain linear layer. The
    LayerNorm has no affine parameters and W_c no bias, as in the released code.

    References:
        Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2, "ModFC".
        https://arxiv.org/abs/2210.08031

    Args:
        in_features: Width of the incoming states.
        out_features: Width of the outgoing states.
        code_features: Width of the codes; 0 makes a plain linear layer.
        bias: Whether to add b.
        gain: α before training.
        offset: The 1 in the equation.

    Example:
        >>> layer = ModFC(4, 3, code_features=2)
        >>> layer(torch.ones(8, 5, 4), torch.ones(5, 2)).shape
        torch.Size([8, 5, 3])
    """

    fixed: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        code_features: int,
        bias: bool = True,
        gain: float = 0.1,
        offset: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_buffer("fixed", None)
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        if bias:
            nn.init.zeros_(self.linear.bias)
        self.offset = offset
        self.code_to_scale = None
        if code_features:
            self.code_to_scale = nn.Linear(code_features, in_features, bias=False)
            self.gain = nn.Parameter(torch.tensor(float(gain)))

    def scale(
        self, codes: Float[Tensor, "*batch modules code"] | None
    ) -> Float[Tensor, "*batch modules in_features"] | None:
        """1 + α LayerNorm(W_c c), which depends on the code alone; None if plain."""
        if self.fixed is not None:
            return self.fixed
        if self.code_to_scale is None or codes is None:
            return None
        projected = self.code_to_scale(codes).to(self.gain.dtype)
        shape = projected.shape[-1:]  # α and 1 are a LayerNorm's own, in one pass
        one = self.gain.new_full(shape, self.offset)
        return F.layer_norm(projected, shape, self.gain.expand(shape), one)

    def fix(self, codes: Float[Tensor, "modules code"] | None) -> None:
        """Compute the scale of these codes for good; no others count from now on."""
        self.fixed = self.scale(codes)
        self.code_to_scale = None

    def forward(
        self,
        states: Float[Tensor, "*#batch #modules in_features"],
        codes: Float[Tensor, "*#batch #modules code"] | None,
    ) -> Float[Tensor, "*batch _modules out_features"]:
        """Transform every module's state under that module's code."""
        return self.linear(self.rescaled(states, codes))

    def rescaled(self, states: Tensor, codes: Tensor | None) -> Tensor:
        """What W multiplies: the states as these codes hear them."""
        scale = self.scale(codes)
        return states if scale is None else _rescaled(states, scale)


class LayerScale(nn.Module):
    """Multiply every channel by a learned factor (Touvron et al. 2021)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, states: Float[Tensor, "*batch width"]) -> Tensor:
        """The states, rescaled."""
        return states * self.factors


class ModFFN(nn.Module):
    """Two ModFCs with one code around an activation, pre-normed, with a residual.

    References:
        Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2, "ModFFN".

    Args:
        width: Width of the states.
        hidden: Width after the activation. GEGLU computes twice as many channels.
        code_features: Width of the codes; 0 makes a plain feed-forward network.
        gated: GEGLU (first half times GELU of the second) rather than GELU.
        residual: Whether the input is added to the output.
        layer_scale: Start of a learned factor per channel; None for no such factor.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        code_features: int,
        gated: bool = True,
        residual: bool = True,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.gated, self.residual = gated, residual
        self.norm = nn.LayerNorm(width)
        wide = 2 * hidden if gated else hidden
        self.expand = ModFC(width, wide, code_features=code_features)
        self.contract = ModFC(hidden, width, code_features=code_features)
        self.layer_scale = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        )

    def fix(self, codes: Float[Tensor, "modules code"] | None) -> None:
        """See `ModFC.fix`."""
        self.expand.fix(codes)
        self.contract.fix(codes)

    def forward(
        self,
        states: Float[Tensor, "*#batch modules width"],
        codes: Float[Tensor, "*#batch modules code"] | None,
    ) -> Float[Tensor, "*batch modules width"]:
        """Let every module compute on its own state."""
        out = self.last(self.hidden(states, codes))
        return states + out if self.residual else out

    def hidden(
        self,
        states: Float[Tensor, "*#batch modules width"],
        codes: Float[Tensor, "*#batch modules code"] | None,
    ) -> Float[Tensor, "*batch modules hidden"]:
        """All but the last linear map."""
        wide = self.expand(self.norm(states), codes)
        if self.gated:
            return _geglu(wide, self.contract.scale(codes))
        return self.contract.rescaled(F.gelu(wide), codes)

    def last(self, hidden: Float[Tensor, "*batch hidden"]) -> Tensor:
        """The last linear map, which all modules share."""
        return self.layer_scale(self.contract.linear(hidden))


FEWEST = 2**17
"""Numbers from which on compiled code is faster both ways; benchmarks measure it."""


def _geglu(
    wide: Float[Tensor, "*batch modules wide"],
    scale: Float[Tensor, "*#batch #modules hidden"] | None,
) -> Float[Tensor, "*batch modules hidden"]:
    """The first half of the channels times GELU of the second, times the scale."""
    flat = _flat(wide, scale)
    if flat is None:
        return plain_geglu(wide, scale)
    return geglu(*flat).reshape(*wide.shape[:-1], -1)


def _rescaled(
    states: Float[Tensor, "*#batch #modules channels"],
    scale: Float[Tensor, "*#batch #modules channels"],
) -> Float[Tensor, "*batch modules channels"]:
    """States times the scale, in the type that a product under autocast takes.

    By themselves, on the way in, states are multiplied as fast by torch.
    """
    wished = torch.is_autocast_enabled("cpu")
    kind = torch.get_autocast_dtype("cpu") if wished else states.dtype
    narrows = (states.dtype, kind) == (torch.float32, torch.bfloat16)
    worth = narrows or (kind is states.dtype and torch.is_grad_enabled())
    flat = _flat(states, scale) if worth else None
    if flat is None or flat[1] is None:
        return states * scale
    return rescale(flat[0], flat[1], kind is torch.bfloat16).reshape(states.shape)


def _flat(states: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor | None] | None:
    """States (batch, modules, channels) and scale as compiled code takes them, or None.

    None where torch is to do it: few numbers, scales that are broadcast over modules, a
    program being traced (a size must not become a condition), other devices and types.
    """
    rows = states.shape[:-1]
    shared = scale is not None and scale.ndim == 2 and scale.shape[0] == rows[-1]
    if (
        torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or states.numel() < FEWEST
        or not (scale is None or shared or scale.shape[:-1] == rows)
        or not usable(states, half=True)
    ):
        return None
    flat = states.reshape(
        (-1, *states.shape[-2:]) if shared else (1, -1, states.shape[-1])
    )
    if scale is not None:
        exact = torch.promote_types(states.dtype, torch.float32)
        scale = scale.reshape(-1, scale.shape[-1]).to(exact)
    return flat, scale
