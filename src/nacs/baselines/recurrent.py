"""Recurrent rivals: RNN, LSTM and GRU by torch, phased LSTM.

Each hears, beside a token, the time since the token before.

References:
    Hochreiter, Schmidhuber, Long Short-Term Memory, 1997.
    Cho et al., Learning Phrase Representations (GRU), 2014. arXiv 1406.1078
    Neil, Pfeiffer, Liu, Phased LSTM, NeurIPS 2016. arXiv 1610.09513
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["PhasedLSTM", "Recurrent", "since_before"]

CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


def since_before(
    times: Float[Tensor, "batch tokens"],
) -> Float[Tensor, "batch tokens"]:
    """The time since the token before; 0 for the first, and for padding."""
    steps = times.diff(dim=1, prepend=times[:, :1])
    return steps.clamp(min=0)


class Recurrent(nn.Module):
    """One of torch's recurrent layers as a mixer of tokens.

    Args:
        width: Of the tokens and of the memory.
        cell: "rnn", "lstm" or "gru".
    """

    def __init__(self, width: int, cell: str) -> None:
        super().__init__()
        self.cell = CELLS[cell](width + 1, width, batch_first=True)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch tokens width"]:
        """The memory after every token; padding comes last and changes none."""
        waited = since_before(times).unsqueeze(-1)
        return self.cell(torch.cat([tokens, waited], -1))[0]

    def step(
        self,
        token: Float[Tensor, "batch width"],
        time: Float[Tensor, " batch"],
        state: tuple[Any, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch width"], tuple[Any, Tensor]]:
        """The memory after the next token of a stream, and what is kept: it, and when.

        Args:
            token: The next token.
            time: Its time stamp.
            state: Of the step before; None at the start.
        """
        memory, before = (None, time) if state is None else state
        waited = (time - before).clamp(min=0)
        heard = torch.cat([token, waited.unsqueeze(-1)], -1).unsqueeze(1)
        out, memory = self.cell(heard, memory)
        return out.squeeze(1), (memory, time)


class PhasedLSTM(nn.Module):
    """An LSTM whose channels are open in a part of a period of their own.

        k = 2φ/r (φ < r/2),  2 − 2φ/r (φ < r),  αφ otherwise,   φ = ((t − s) mod τ) / τ

    Args:
        width: Of the tokens and of the memory.
        leak: α, what passes while closed.
    """

    def __init__(self, width: int, *, leak: float = 1e-3) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width, width)
        # Periods from one to 150 average steps.
        self.log_period = nn.Parameter(torch.empty(width).uniform_(0, 5))
        self.shift = nn.Parameter(torch.rand(width))
        self.open = nn.Parameter(torch.full((width,), 0.3))
        self.leak = leak

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch tokens width"]:
        """The memory after every token."""
        opened = self.openness(times).unbind(1)
        state = cell = tokens.new_zeros(tokens.shape[0], tokens.shape[-1])
        states: list[Tensor] = []
        for token, k in zip(tokens.unbind(1), opened, strict=True):
            new_state, new_cell = self.cell(token, (state, cell))
            state = k * new_state + (1 - k) * state
            cell = k * new_cell + (1 - k) * cell
            states.append(state)
        return torch.stack(states, 1)

    def openness(
        self, times: Float[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        """K of every channel at every time, in [0, 1]."""
        period = self.log_period.exp()
        since = times.unsqueeze(-1) - self.shift * period
        phase = since / period - (since / period).detach().floor()
        share = self.open.clamp(0.01, 1)
        rising, falling = 2 * phase / share, 2 - 2 * phase / share
        closed = self.leak * phase
        k = torch.where(phase < share / 2, rising, falling)
        return torch.where(phase < share, k, closed)
