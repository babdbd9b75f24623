"""Layers that every module shares and each module bends with its own code."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        projected = self.code_to_scale(codes)
        return self.offset + self.gain * F.layer_norm(projected, projected.shape[-1:])

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
        return states if scale is None else states * scale


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
            value, gate = wide.chunk(2, dim=-1)
            return self.contract.rescaled(value * F.gelu(gate), codes)
        return self.contract.rescaled(F.gelu(wide), codes)

    def last(self, hidden: Float[Tensor, "*batch hidden"]) -> Tensor:
        """The last linear map, which all modules share."""
        return self.layer_scale(self.contract.linear(hidden))
