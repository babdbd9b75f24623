"""Which keys a query is paired with: the best by score, exactly or by blocks.

Every selection returns positions and which of them count: a query with fewer live keys
than it may have pairs is filled up with positions that do not.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Pairs", "gather", "recall", "top_k", "top_k_by_blocks"]


class Pairs(NamedTuple):
    """The selected keys of every query."""

    chosen: Int[Tensor, "batch heads queries pairs"]
    """Positions of keys."""

    alive: Bool[Tensor, "batch heads queries pairs"]
    """False where the position only fills up."""

    scores: Float[Tensor, "batch heads queries pairs"]
    """q · k / √d of the pairs; whatever is finite where not alive."""


def top_k(
    scores: Float[Tensor, "batch heads queries keys"],
    allowed: Bool[Tensor, "#batch #heads #queries #keys"] | None,
    pairs: int,
) -> Pairs:
    """The `pairs` best keys of every query, exactly.

    Args:
        scores: q · k / √d.
        allowed: True where a query may see a key; None where all may.
        pairs: How many; 0 for all keys, in their order.
    """
    count = scores.shape[-1]
    if pairs == 0 or pairs >= count:
        chosen = torch.arange(count, device=scores.device).expand(scores.shape)
        alive = scores.new_ones((), dtype=torch.bool) if allowed is None else allowed
        return Pairs(chosen, alive.expand(scores.shape), scores)
    seen = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
    best, chosen = seen.topk(pairs, dim=-1, sorted=False)
    alive = best > -math.inf
    return Pairs(chosen, alive, best.masked_fill(~alive, 0))


def top_k_by_blocks(
    queries: Float[Tensor, "batch heads queries head_width"],
    keys: Float[Tensor, "batch heads keys head_width"],
    keep: Bool[Tensor, "batch keys"] | None,
    pairs: int,
    *,
    block: int,
    blocks: int,
    causal: bool,
) -> Pairs:
    """The best keys within each query's best blocks of keys: less than T² scores.

    Consecutive keys make a block. A query looks at the `blocks` blocks whose mean key
    it likes best, and always at the block it stands in itself, whose mean it does not
    ask: in a causal run that mean would tell the future. Costs O(T²/block + T · blocks
    · block). `recall` says what share of the exact top K it finds.

    Args:
        queries: Of all tokens; query i stands at key i.
        keys: Of all tokens.
        keep: False where a key is padding.
        pairs: How many keys a query gets, at most `block`.
        block: Keys in a block.
        blocks: Blocks a query looks into beside its own.
        causal: Whether a query sees no later key.
    """
    batch, heads, count, width = keys.shape
    parts = -(-count // block)
    padded = parts * block
    live = keys.new_ones((batch, count), dtype=torch.bool) if keep is None else keep
    live = torch.nn.functional.pad(live, (0, padded - count))
    grid = torch.nn.functional.pad(keys, (0, 0, 0, padded - count))
    grid = grid.unflatten(2, (parts, block))
    weight = live.view(batch, 1, parts, block, 1).to(keys.dtype)
    size = weight.sum(-2)
    means = (grid * weight).sum(-2) / size.clamp(min=1)
    # Choose blocks: the own one always, the future and the empty ones never.
    liking = queries @ means.mT
    own = torch.arange(count, device=keys.device) // block
    place = torch.arange(parts, device=keys.device)
    never = (size.squeeze(-1) == 0).unsqueeze(-2)
    if causal:
        never = never | (place > own[:, None])
    liking = liking.masked_fill(never, -math.inf)
    liking = liking.masked_fill(place == own[:, None], math.inf)
    picked = liking.topk(min(blocks + 1, parts), dim=-1)
    real = picked.values > -math.inf
    # Score the keys of the chosen blocks.
    offset = torch.arange(block, device=keys.device)
    chosen = (picked.indices.unsqueeze(-1) * block + offset).flatten(-2)
    real = real.repeat_interleave(block, -1)
    flat = live[:, None, None].expand(batch, heads, count, padded)
    real = real & flat.gather(-1, chosen)
    if causal:
        real = real & (chosen <= torch.arange(count, device=keys.device)[:, None])
    chosen = chosen.clamp(max=count - 1)
    scores = (queries.unsqueeze(-2) * gather(keys, chosen)).sum(-1) / math.sqrt(width)
    best = top_k(scores, real, pairs)
    return best._replace(chosen=chosen.gather(-1, best.chosen))


def gather(
    values: Float[Tensor, "batch heads keys width"],
    chosen: Int[Tensor, "batch heads queries pairs"],
) -> Float[Tensor, "batch heads queries pairs width"]:
    """The rows of the chosen keys, for every query."""
    width = values.shape[-1]
    index = chosen.flatten(-2).unsqueeze(-1).expand(*chosen.shape[:2], -1, width)
    return values.gather(-2, index).unflatten(-2, chosen.shape[-2:])


def recall(found: Pairs, best: Pairs) -> float:
    """The share of the exact selection that another one found, over all queries."""
    hit = (found.chosen.unsqueeze(-1) == best.chosen.unsqueeze(-2)).logical_and(
        found.alive.unsqueeze(-1)
    )
    hit = hit.any(-2) & best.alive
    return (hit.sum() / best.alive.sum().clamp(min=1)).item()
