"""Neuronal attention: a query-key pair relaxes to a logit.

References:
    Razzaq et al., Neuronal Attention Circuit (NAC) for Representation Learning, 2025.
    https://arxiv.org/abs/2512.10282
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from nacs.attentive.attention import merge_heads, split_heads
from nacs.neuronal import compiled, dynamics
from nacs.neuronal.config import NeuronalConfig
from nacs.neuronal.inputs import check_call, check_step
from nacs.neuronal.pairs import (
    SHORTEST,
    Pairs,
    between,
    dense_weights,
    gather,
    key_spacing,
    masked_softmax,
    top_k,
    top_k_by_blocks,
)
from nacs.neuronal.sparse import Backbone, one_layer, projection
from nacs.neuronal.wiring import ncp
from nacs.tokenizers import without_padding

__all__ = ["NeuronalAttention", "StreamState"]


class StreamState(NamedTuple):
    """What a stream remembers of the keys its next query may see."""

    keys: Float[Tensor, "batch heads keys head_width"]
    values: Float[Tensor, "batch heads keys head_width"]
    times: Num[Tensor, "batch keys"]
    spacing: Num[Tensor, "batch keys"]


class NeuronalAttention(nn.Module):
    """Attention whose logits are solutions of an ODE, one per query-key pair.

        da/dt = −ω(q, k) a + φ(q, k),   a(0) = q · k / √d,   w = softmax_k(s · a(t))

    φ and ω come from a sparse circuit wired like that of *C. elegans* (NCP), t is the
    horizon, s a learned scale. Used like `nn.MultiheadAttention`, batch first; masks
    are True where something is kept.

    References:
        Razzaq et al., Neuronal Attention Circuit, 2025. The released packages differ:
        their φ and ω are constants.

    Args:
        config: Sizes and options; `nacs.neuronal.presets` has the paper's variants.

    Example:
        >>> layer = NeuronalAttention(NeuronalConfig(width=16, heads=2))
        >>> layer(torch.randn(3, 20, 16))[0].shape
        torch.Size([3, 20, 16])
    """

    def __init__(self, config: NeuronalConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.query, self.key, self.value = (projection(config) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.fixed: nn.Linear | None = None
        self.backbone = None
        if config.solver not in {"score", "uniform"}:
            wiring = ncp(
                2 * config.head_width,
                config.inter,
                config.command,
                config.motor,
                sparsity=config.sparsity,
                seed=config.wiring_seed,
            )
            self.backbone = Backbone(wiring)
        self.pace_of_queries = self.pace_of_keys = None
        if config.horizon == "gate" or config.integration == "gate":
            self.pace_of_queries = nn.Linear(config.head_width, 2)
            self.pace_of_keys = nn.Linear(config.head_width, 2, bias=False)
        # At the start a logit of rate 1 relaxes over eight steps of its series.
        self.log_pace = (
            nn.Parameter(torch.full((heads,), -math.log(8))) if config.timed else None
        )
        self.log_scale = (
            nn.Parameter(torch.zeros(heads)) if config.logit_scale else None
        )

    def forward(
        self,
        query: Float[Tensor, "batch queries width"],
        key: Float[Tensor, "batch keys width"] | None = None,
        value: Float[Tensor, "batch keys width"] | None = None,
        *,
        query_times: Num[Tensor, "batch queries"] | None = None,
        key_times: Num[Tensor, "batch keys"] | None = None,
        keep: Bool[Tensor, "batch keys"] | None = None,
        allowed: Bool[Tensor, "#batch queries keys"] | None = None,
        need_weights: bool = False,
    ) -> tuple[
        Float[Tensor, "batch queries width"],
        Float[Tensor, "batch heads queries keys"] | None,
    ]:
        """Attend; without `key` and `value`, to the queries' own tokens.

        Args:
            query: Tokens that ask.
            key: Tokens that are asked; the queries themselves by default.
            value: What they answer; the keys by default.
            query_times: Time stamps, numbers of any type; in any unit, but the same for
                keys, and for quadrature one of which a millionth is no time.
            key_times: Time stamps, not decreasing; the queries' by default if `key` is.
            keep: False where a key is padding: it takes no part at all.
            allowed: False where a query may not see a key. Keys are then selected from
                all scores, also where the layer does it by blocks.
            need_weights: Whether the weights are returned as well, else None.
        """
        if key is None:
            if key_times is not None:
                raise ValueError("got `key_times` without a `key` they belong to.")
            key, key_times = query, query_times
        value = key if value is None else value
        stamps = query_times, key_times
        check_call(self.config, query, key, value, *stamps, keep, allowed)
        if key_times is not None:
            own, key_times = key_times is query_times, without_padding(key_times, keep)
            query_times = key_times if own else query_times
        q, k, v = self._project(query, key, value, keep)
        spacing = None
        if self.config.integration == "quadrature":
            assert key_times is not None
            spacing = key_spacing(key_times, keep, causal=self.config.causal)
        blocks = None
        if self.config.selection == "blocks" and allowed is None and q.shape[2]:
            blocks = self.by_blocks(q, k, keep)
        times = compiled.stamps(query_times, key_times, q.dtype)
        fast = compiled.serves(self.config, q, k, v, times)
        told, heard, dense = None if fast else self.tell(k, v), [], []
        for here in [slice(0, q.shape[2])] if fast else _parts(q, k):
            if blocks is None:
                may = None if allowed is None else allowed[:, None, here]
                pairs = top_k(
                    q[:, :, here],
                    k,
                    may,
                    self.config.top_k,
                    keep=keep,
                    causal=self.config.causal,
                    window=self.config.window,
                    first=here.start,
                )
            else:
                pairs = Pairs(*(x[:, :, here] for x in blocks if x is not None))
            if told is None:
                part, weights = self._compiled(q, k, v, pairs, times)
            else:
                asked = None if query_times is None else query_times[:, here]
                elapsed = between(asked, key_times, pairs)
                part, weights = self._attend(
                    q[:, :, here], told, pairs, elapsed, spacing
                )
            heard.append(part)
            if need_weights:
                dense.append(dense_weights(weights, pairs, k.shape[-2]))
        whole = heard[0] if len(heard) == 1 else torch.cat(heard, 2)
        out = self.out(merge_heads(whole))
        return out, torch.cat(dense, 2) if need_weights else None

    def tell(
        self,
        k: Float[Tensor, "batch heads keys head_width"],
        v: Float[Tensor, "batch heads keys head_width"],
    ) -> Float[Tensor, "batch heads keys told"]:
        """All that a pair needs of its key, in one row: it is then copied once."""
        told = [k, v]
        if self.backbone is not None:
            told.append(self.backbone.from_keys(k))
        if self.pace_of_keys is not None:
            told.append(self.pace_of_keys(k))
        return torch.cat(told, -1)

    def step(
        self,
        token: Float[Tensor, "batch width"],
        time: Num[Tensor, " batch"],
        state: StreamState | None = None,
    ) -> tuple[Float[Tensor, "batch width"], StreamState]:
        """Process one token of a causal stream; the same as in the whole sequence.

        Args:
            token: The next token.
            time: Its time stamp.
            state: Of the step before; None at the start.

        Raises:
            ValueError: If the layer is not causal, or selects by blocks.
        """
        check_step(self.config, token, time, None if state is None else state.keys)
        token, time = token.unsqueeze(1), time.unsqueeze(1)
        q, k, v = self._project(token, token, token)
        spacing = torch.full_like(time, SHORTEST)
        if state is not None:
            spacing = (time - state.times[:, -1:]).clamp(min=SHORTEST)
            k = torch.cat([state.keys, k], 2)
            v = torch.cat([state.values, v], 2)
            spacing = torch.cat([state.spacing, spacing], 1)
        times = time if state is None else torch.cat([state.times, time], 1)
        last = self.config.window
        if last:
            k, v, times, spacing = (
                k[:, :, -last:],
                v[:, :, -last:],
                times[:, -last:],
                spacing[:, -last:],
            )
        pairs = top_k(q, k, None, self.config.top_k)
        stamps = compiled.stamps(time, times, q.dtype)
        if compiled.serves(self.config, q, k, v, stamps):
            heard, _ = self._compiled(q, k, v, pairs, stamps)
        else:
            used = spacing if self.config.integration == "quadrature" else None
            elapsed = between(time, times, pairs)
            heard, _ = self._attend(q, self.tell(k, v), pairs, elapsed, used)
        out = self.out(merge_heads(heard)).squeeze(1)
        return out, StreamState(k, v, times, spacing)

    @torch.no_grad()
    def fix(self) -> None:
        """Fuse the projections of self-attention for good, once their synapses are.

        Those that are circuits of their own stay as they are.
        """
        found = [one_layer(gate) for gate in (self.query, self.key, self.value)]
        layers = [each for each in found if each is not None]
        if not layers:
            return
        weights, biases = zip(*layers, strict=True)
        width = self.config.width
        self.fixed = nn.Linear(width, 3 * width).to(self.out.weight)
        self.fixed.weight.copy_(torch.cat(weights))
        self.fixed.bias.copy_(torch.cat(biases))

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch heads tokens head_width) each."""
        own = query is key is value
        key = without_padding(key, keep)
        query, value = (key, key) if own else (query, without_padding(value, keep))
        if self.fixed is not None and own:
            found = self.fixed(query).chunk(3, -1)
        else:
            found = self.query(query), self.key(key), self.value(value)
        q, k, v = (split_heads(each, self.config.heads) for each in found)
        return q, k, v

    def _compiled(
        self, q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, times: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """`_attend` in compiled code."""
        learned = compiled.Learned(self.backbone, self.log_scale, self.log_pace)
        start = self.config.start == "score"
        return compiled.hear(learned, q, k, v, pairs, times, from_score=start)

    def _attend(
        self,
        q: Float[Tensor, "batch heads queries head_width"],
        told: Float[Tensor, "batch heads keys told"],
        pairs: Pairs,
        elapsed: Num[Tensor, "#batch #heads queries pairs"] | None,
        spacing: Float[Tensor, "batch keys"] | None,
    ) -> tuple[Tensor, Tensor]:
        """Values heard (batch heads queries head_width), weights of the pairs."""
        width, kind = self.config.head_width, self.out.weight.dtype
        # Subtracted in the type of the stamps, which may need it.
        elapsed = None if elapsed is None else elapsed.to(kind)
        spacing = None if spacing is None else spacing.to(kind)
        every, chosen = pairs.chosen is None, pairs.chosen
        picked = told.unsqueeze(2) if chosen is None else gather(told, chosen)
        keys, values = picked[..., :width], picked[..., width : 2 * width]
        rest = picked[..., 2 * width :]
        asked = q / math.sqrt(width)
        scores = (
            asked @ keys.squeeze(2).mT if every else (asked.unsqueeze(3) * keys).sum(-1)
        )
        gate = None
        if self.pace_of_queries is not None:
            pace = self.pace_of_queries(q).unsqueeze(3) + rest[..., -2:]
            time = 1.0 if elapsed is None else elapsed
            gate = torch.sigmoid(pace[..., 0] * time + pace[..., 1])
        logits = torch.zeros_like(scores) if self.config.solver == "uniform" else scores
        if self.backbone is not None:
            asking = self.backbone.from_queries(q).unsqueeze(3)
            drive, rate = self.backbone(asking, rest[..., : self.config.inter])
            logits = self._solve(drive, rate, scores, elapsed, gate)
        logits = self._scaled(logits, spacing)
        weights = masked_softmax(logits, pairs.alive)
        part = weights
        if self.config.integration == "gate" and gate is not None:
            part = weights * gate
        if every:
            return part @ values.squeeze(2), weights
        heard = (part.unsqueeze(-1) * values).sum(-2)
        return heard, weights

    def _scaled(self, logits: Tensor, spacing: Tensor | None) -> Tensor:
        """Logits under the learned scale and the stretches of time of the keys."""
        if self.log_scale is not None:
            logits = logits * self.log_scale.exp()[:, None, None]
        return logits if spacing is None else logits + spacing.log()[:, None, None]

    def _solve(
        self,
        drive: Tensor,
        rate: Tensor,
        scores: Tensor,
        elapsed: Tensor | None,
        gate: Tensor | None,
    ) -> Tensor:
        """The relaxed logits, before the scale."""
        config = self.config
        horizon: Tensor | float = 1.0
        if config.horizon == "gate" and gate is not None:
            horizon = gate
        elif self.log_pace is not None and elapsed is not None:
            horizon = elapsed * self.log_pace.exp()[:, None, None]
        initial = scores if config.start == "score" else 0.0
        if config.solver == "steady":
            return dynamics.steady(drive, rate, horizon, initial)
        if config.solver == "exact":
            return dynamics.exact(drive, rate, horizon, initial)
        # Steps beyond 1/ω would overshoot the equilibrium, beyond 2/ω diverge; at 1/ω
        # the first lands on it, so waiting longer would change nothing.
        horizon = torch.minimum(torch.as_tensor(horizon).to(rate), config.steps / rate)
        return dynamics.euler(drive, rate, horizon, initial, steps=config.steps)

    def by_blocks(
        self,
        q: Float[Tensor, "batch heads queries head_width"],
        k: Float[Tensor, "batch heads keys head_width"],
        keep: Bool[Tensor, "batch keys"] | None,
    ) -> Pairs:
        """The pairs of self-attention that selects by blocks."""
        if q.shape[-2] != k.shape[-2]:
            raise ValueError(
                "selection by blocks is for self-attention, got "
                f"{q.shape[-2]} queries and {k.shape[-2]} keys; use selection='exact'."
            )
        config = self.config
        return top_k_by_blocks(
            q,
            k,
            keep,
            config.top_k,
            block=config.block,
            blocks=config.blocks,
            causal=config.causal,
        )


AT_ONCE = 2**19
"""Scores of queries and keys that inference works on at a time."""


def _parts(q: Tensor, k: Tensor) -> Iterator[slice]:
    """All queries in training, else as many at a time as stay in a cache."""
    count = q.shape[2]
    rows = count
    if not (torch.is_grad_enabled() or torch.compiler.is_exporting()):
        rows = max(16, AT_ONCE // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    if rows is count or not count:
        yield slice(0, count)
        return
    for start in range(0, count, rows):
        yield slice(start, start + rows)
