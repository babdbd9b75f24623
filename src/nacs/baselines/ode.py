"""Rivals that solve an ODE between observations.

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
from torch.utils.checkpoint import checkpoint

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

    Every key and value follows an ODE, x' = tanh(W x + b) − x, from its time stamp; a
    query hears it where it has come to when the query asks. The paper's attention
    averages over the way; here it takes the end of it, by the midpoint rule in one
    step, with time running as 1 − exp(−pace · t) so that this step is stable however
    far apart the two are. With a for that time and f for the slope the step is

        x + a (tanh(W (x + a/2 f) + b) − (x + a/2 f)),  f = tanh(W x + b) − x

    and W x + b, W f and f are the key's alone: a pair of tokens costs one tanh a
    channel, O(T² width), a few samples at a time and computed again on the way back, so
    that memory is that of the scores.

    Args:
        width: Of the tokens.
        heads: Attention heads.
        causal: No token hears a later one.
    """

    PAIRS = 1 << 20
    """Channels of pairs that are moved at once: few enough to stay in the cache."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
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
        heads = self.project(tokens).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        still = torch.cat([k, v], -1)  # batch heads keys 2·head_width
        at = self.flow(still)
        slope = torch.tanh(at) - still
        turn = slope @ self.flow.weight.T
        apart = (times[:, :, None] - times[:, None]).abs()[:, None]
        apart = -torch.expm1(-self.log_pace.exp() * apart)
        banned = self._banned(tokens, keep)
        parts = (q, still, slope, at, turn, apart, banned)
        if torch.compiler.is_exporting():  # a program of any batch has one block
            heard = _hear(*parts)
        else:
            count = tokens.shape[1]
            pairs = count**2 * still.shape[1] * still.shape[-1]
            split = (x.split(max(1, self.PAIRS // pairs)) for x in parts)
            blocks = zip(*split, strict=True)  # an empty batch is one, too
            heard = torch.cat(
                [checkpoint(_hear, *block, use_reentrant=False) for block in blocks]
            )
        return self.out(heard.transpose(1, 2).flatten(-2))

    def _banned(
        self, tokens: Tensor, keep: Tensor | None
    ) -> Float[Tensor, "batch 1 queries keys"]:
        """−∞ where a query may not hear a key; nowhere in a sample without tokens."""
        batch, count, _ = tokens.shape  # `len` would fix the batch of a program
        banned = tokens.new_zeros(batch, 1, count, count)
        if self.causal:
            later = torch.ones_like(banned[0, 0], dtype=torch.bool).triu(1)
            banned = banned.masked_fill(later, -math.inf)
        if keep is not None:
            banned = banned.masked_fill(~keep[:, None, None], -math.inf)
            banned = banned.masked_fill(~keep.any(-1)[:, None, None, None], 0)
        return banned


def _hear(
    q: Float[Tensor, "batch heads queries width"],
    still: Float[Tensor, "batch heads keys both"],
    slope: Float[Tensor, "batch heads keys both"],
    at: Float[Tensor, "batch heads keys both"],
    turn: Float[Tensor, "batch heads keys both"],
    apart: Float[Tensor, "batch 1 queries keys"],
    banned: Float[Tensor, "batch 1 queries keys"],
) -> Float[Tensor, "batch heads queries width"]:
    """What queries hear of keys and values that have moved to them."""
    (k, v), (k_slope, v_slope) = still.chunk(2, -1), slope.chunk(2, -1)
    half = apart.unsqueeze(-1) / 2
    moved = torch.tanh(torch.addcmul(at.unsqueeze(2), half, turn.unsqueeze(2)))
    keys, values = moved.chunk(2, -1)
    stay, drift = 1 - apart, apart.square() / 2
    logits = apart * (keys @ q.unsqueeze(-1)).squeeze(-1)
    logits = logits + stay * (q @ k.mT) - drift * (q @ k_slope.mT)
    shares = (logits / math.sqrt(q.shape[-1]) + banned).softmax(-1)
    heard = ((shares * apart).unsqueeze(-2) @ values).squeeze(-2)
    return heard + (shares * stay) @ v - (shares * drift) @ v_slope
