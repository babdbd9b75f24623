"""Liquid rivals by ncps: closed-form continuous-time (CfC) and liquid time-constant.

References:
    Hasani et al., Closed-form continuous-time neural networks, 2022. arXiv 2106.13898
    Hasani et al., Liquid Time-constant Networks, AAAI 2021. arXiv 2006.04439
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.baselines.recurrent import since_before
from nacs.errors import UserError

__all__ = ["Liquid"]


class Liquid(nn.Module):
    """A CfC or LTC layer of ncps as a mixer of tokens.

    Args:
        width: Of the tokens and of the memory.
        cell: "cfc" or "ltc".

    Raises:
        UserError: If ncps is not installed.
    """

    def __init__(self, width: int, cell: str) -> None:
        super().__init__()
        try:
            from ncps.torch import LTC, CfC  # pyright: ignore
        except ImportError as error:
            raise UserError(
                "`ncps` is not installed: pip install 'nacs[neuronal]'."
            ) from error
        self.width = width
        self.cell: nn.Module = {"cfc": CfC, "ltc": LTC}[cell](width, width)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch tokens width"]:
        """The memory after every token."""
        # (batch, time) would be applied to the wrong axis, so one span a neuron; and
        # LTC divides by a span of 0.
        waited = since_before(times).clamp(min=1e-3).unsqueeze(-1)
        waited = waited.expand(-1, -1, self.width)
        start = tokens.new_zeros(tokens.shape[0], self.width)
        return self.cell(tokens, start, timespans=waited)[0]
