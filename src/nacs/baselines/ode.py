"""Rivals that solve an ODE between observations, by torchdiffeq.

References:
    De Brouwer et al., GRU-ODE-Bayes, NeurIPS 2019. arXiv 1905.12374
    Rubanova et al., Latent ODEs (ODE-RNN), NeurIPS 2019. arXiv 1907.03907
    Funahashi, Nakamura, Approximation of dynamical systems by CT-RNNs, 1993.
    Chen et al., ContiFormer, NeurIPS 2023. arXiv 2402.10635
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.baselines.recurrent import since_before
from nacs.errors import UserError

__all__ = ["ContiFormer", "OdeRecurrent"]


def _solver() -> object:
    try:
        from torchdiffeq import odeint  # pyright: ignore
    except ImportError as error:
        raise UserError(
            "`torchdiffeq` is not installed: pip install 'nacs[rivals]'."
        ) from error
    return odeint


class OdeRecurrent(nn.Module):
    """A memory that follows an ODE between tokens; midpoint rule, two steps a gap.

        gru-ode:  h' = (1 − z) (tanh(W [h r]) − h) between tokens, a GRU cell at them
        ct-rnn:   h' = −h / τ + tanh(W h + U x), x held since the token before

    Args:
        width: Of the tokens and of the memory.
        cell: "gru-ode" or "ct-rnn".

    Raises:
        UserError: If torchdiffeq is not installed.
    """

    def __init__(self, width: int, cell: str) -> None:
        super().__init__()
        self.odeint = _solver()
        self.width = width
        self.jump = nn.GRUCell(width, width) if cell == "gru-ode" else None
        if self.jump is not None:
            self.gates = nn.Linear(width, 2 * width)
        else:
            self.log_pace = nn.Parameter(torch.zeros(width))
            self.hear = nn.Linear(width, width)
        self.recur = nn.Linear(width, width, bias=self.jump is not None)

    def slope(self, state: Tensor, heard: Tensor) -> Tensor:
        """H' of the memory."""
        if self.jump is None:
            return torch.tanh(self.recur(state) + heard) - self.log_pace.exp() * state
        reset, update = torch.sigmoid(self.gates(state)).chunk(2, -1)
        return (1 - update) * (torch.tanh(self.recur(reset * state)) - state)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch tokens width"]:
        """The memory after every token."""
        state = tokens.new_zeros(tokens.shape[0], self.width)
        span = tokens.new_tensor([0.0, 1.0])
        heard = tokens if self.jump is not None else self.hear(tokens)
        # In a CT-RNN a token acts for a while, at least a moment.
        waits = since_before(times) + (0.1 if self.jump is None else 0.0)
        states: list[Tensor] = []
        for token, wait in zip(
            heard.unbind(1), waits.unsqueeze(-1).unbind(1), strict=True
        ):
            state = self.odeint(  # pyright: ignore
                lambda _, h, x=token, dt=wait: dt * self.slope(h, x),
                state,
                span,
                method="midpoint",
                options={"step_size": 0.5},
            )[-1]
            state = state if self.jump is None else self.jump(token, state)
            states.append(state)
        return torch.stack(states, 1)


class ContiFormer(nn.Module):
    """Attention to keys and values that move from their own time to the query's.

    Every key and value follows an ODE, k' = tanh(W k) − k, from its time stamp; a query
    hears it where it has come to when the query asks. The paper's attention averages
    over the way; here it takes the end of it, by the midpoint rule in one step, with
    time running as 1 − exp(−pace · t) so that this step is stable however far apart the
    two are. Costs O(T² width) in time and memory.

    Args:
        width: Of the tokens.
        heads: Attention heads.
        causal: No token hears a later one.

    Raises:
        UserError: If torchdiffeq is not installed.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.odeint = _solver()
        self.heads, self.causal = heads, causal
        self.project = nn.Linear(width, 3 * width)
        self.log_pace = nn.Parameter(torch.tensor(-2.0))
        self.flow = nn.Linear(2 * (width // heads), 2 * (width // heads))
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """What every token hears."""
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in self.project(tokens).chunk(3, -1)
        )
        still = torch.cat([k, v], -1).unsqueeze(2)  # batch heads 1 keys 2·head_width
        still = still.expand(-1, -1, tokens.shape[1], -1, -1)
        apart = (times[:, :, None] - times[:, None]).abs()[:, None, :, :, None]
        apart = -torch.expm1(-self.log_pace.exp() * apart)
        moved = self.odeint(  # pyright: ignore
            lambda _, x: apart * (torch.tanh(self.flow(x)) - x),
            still,
            tokens.new_tensor([0.0, 1.0]),
            method="midpoint",
            options={"step_size": 1.0},
        )[-1]
        keys, values = moved.chunk(2, -1)
        logits = (q.unsqueeze(3) * keys).sum(-1) / math.sqrt(q.shape[-1])
        if self.causal:
            later = torch.ones_like(logits[0, 0], dtype=torch.bool).triu(1)
            logits = logits.masked_fill(later, -math.inf)
        if keep is not None:
            logits = logits.masked_fill(~keep[:, None, None], -math.inf)
            logits = logits.masked_fill(~keep.any(-1)[:, None, None, None], 0)
        heard = (logits.softmax(-1).unsqueeze(-2) @ values).squeeze(-2)
        return self.out(heard.transpose(1, 2).flatten(-2))
