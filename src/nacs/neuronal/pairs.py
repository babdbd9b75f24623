"""Which keys a query is paired with, and what lies between the two.

Every selection returns positions and which of them count: a query with fewer live keys
than it may have pairs is filled up with positions that do not.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from nacs.native.calls import select
from nacs.native.parts import transformed, usable

__all__ = [
    "SHORTEST",
    "Pairs",
    "between",
    "dense_weights",
    "gather",
    "key_spacing",
    "masked_softmax",
    "plain_top_k",
    "recall",
    "seen",
    "top_k",
    "top_k_by_blocks",
    "traced_top_k",
]


class Pairs(NamedTuple):
    """The selected keys of every query."""

    chosen: Int[Tensor, "batch heads queries pairs"] | None
    """Positions of keys; None for all keys, in their order."""

    alive: Bool[Tensor, "#batch #heads #queries pairs"] | None
    """False where a position only fills up; None where all count."""


def top_k(
    queries: Float[Tensor, "batch heads queries head_width"],
    keys: Float[Tensor, "batch heads keys head_width"],
    allowed: Bool[Tensor, "#batch #heads #queries #keys"] | None,
    pairs: int,
    *,
    keep: Bool[Tensor, "batch keys"] | None = None,
    causal: bool = False,
    window: int = 0,
    first: int = 0,
) -> Pairs:
    """The `pairs` best keys of every query by q · k, exactly.

    Positions have no gradient, so training costs no T² work on the way back. Compiled
    code does it where there is some (`nacs.native`) and `allowed` is None.

    Args:
        queries: q.
        keys: k.
        allowed: True where a query may see a key; None where all may.
        pairs: How many; 0 for all keys.
        keep: False where a key is padding.
        causal: Whether a query sees no later key.
        window: Keys a causal query sees, its own the last; 0 for all.
        first: Query i stands at key `first` + i.
    """
    if pairs and (torch.compiler.is_exporting() or transformed()):
        mask = seen(
            queries, keys, allowed, keep, causal=causal, window=window, first=first
        )
        return traced_top_k(queries, keys, mask, pairs)
    some = 0 < pairs < keys.shape[-2]
    if some and allowed is None and usable(queries, keys):
        chosen, alive = select(
            queries.detach(), keys.detach(), keep, pairs, causal, window, first
        )
        return Pairs(chosen, alive if causal or keep is not None else None)
    mask = seen(queries, keys, allowed, keep, causal=causal, window=window, first=first)
    return plain_top_k(queries, keys, mask, pairs) if some else Pairs(None, mask)


def seen(
    queries: Float[Tensor, "batch heads queries head_width"],
    keys: Float[Tensor, "batch heads keys head_width"],
    allowed: Bool[Tensor, "#batch #heads #queries #keys"] | None,
    keep: Bool[Tensor, "batch keys"] | None,
    *,
    causal: bool,
    window: int,
    first: int,
) -> Bool[Tensor, "#batch #heads #queries #keys"] | None:
    """True where queries may see keys, from all that says so; None where all may."""
    mask = allowed
    if keep is not None:
        mask = keep[:, None, None] if mask is None else mask & keep[:, None, None]
    if causal:
        asking, asked = (
            torch.arange(x.shape[2], device=x.device) for x in (queries, keys)
        )
        ago = first + asking[:, None] - asked
        near = ago >= 0
        if window:
            near = near & (ago < window)
        mask = near[None, None] if mask is None else mask & near
    return mask


@torch.no_grad()
def plain_top_k(
    queries: Float[Tensor, "batch heads queries head_width"],
    keys: Float[Tensor, "batch heads keys head_width"],
    allowed: Bool[Tensor, "#batch #heads #queries #keys"] | None,
    pairs: int,
) -> Pairs:
    """`top_k` in torch: for any mask and device, and the reference."""
    size = (*queries.shape[:-1], keys.shape[-2])
    mask = None if allowed is None else allowed.expand(size).flatten(0, 1)
    chosen = queries.new_empty((*size[:3], pairs), dtype=torch.long).flatten(0, 1)
    alive = None if mask is None else torch.empty_like(chosen, dtype=torch.bool)
    rows = max(1, LARGEST.get(queries.device.type, 2**26) // keys.shape[-2])
    for part, (q, k) in enumerate(
        zip(queries.flatten(0, 1), keys.flatten(0, 1), strict=True)
    ):
        for start in range(0, len(q), rows):
            here = slice(start, start + rows)
            scores = q[here] @ k.mT
            if mask is not None and alive is not None:
                scores.masked_fill_(~mask[part, here], -math.inf)
            best, chosen[part, here] = scores.topk(pairs, sorted=False)
            if alive is not None:
                alive[part, here] = best > -math.inf
    shape = (*size[:3], pairs)
    return Pairs(chosen.view(shape), None if alive is None else alive.view(shape))


@torch.no_grad()
def traced_top_k(
    queries: Float[Tensor, "batch heads queries head_width"],
    keys: Float[Tensor, "batch heads keys head_width"],
    allowed: Bool[Tensor, "#batch #heads #queries #keys"] | None,
    pairs: int,
) -> Pairs:
    """`top_k` without a loop, a branch on a size or a write in place.

    For programs of any length, and for `torch.func`.

    Where there are fewer keys than pairs, the rest only fills up.
    """
    scores = queries @ keys.mT
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    scores = F.pad(scores, (0, pairs), value=-math.inf)
    best, chosen = scores.topk(pairs, sorted=False)
    return Pairs(chosen.clamp(max=keys.shape[-2] - 1), best > -math.inf)


LARGEST = {"cpu": 2**18}
"""Scores `plain_top_k` holds at a time on a device: a processor's cache is small."""


@torch.no_grad()
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
    batch, heads, count, _ = keys.shape
    parts = -(-count // block)
    padded = parts * block
    live = keys.new_ones((batch, count), dtype=torch.bool) if keep is None else keep
    live = F.pad(live, (0, padded - count))
    grid = F.pad(keys, (0, 0, 0, padded - count))
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
    scores = (queries.unsqueeze(-2) @ gather(keys, chosen).mT).squeeze(-2)
    best, place = scores.masked_fill(~real, -math.inf).topk(pairs, sorted=False)
    return Pairs(chosen.gather(-1, place), best > -math.inf)


def gather(
    values: Float[Tensor, "batch heads keys width"],
    chosen: Int[Tensor, "batch heads queries pairs"],
) -> Float[Tensor, "batch heads queries pairs width"]:
    """The rows of the chosen keys, for every query."""
    batch, heads, count, width = values.shape
    start = torch.arange(batch * heads, device=chosen.device) * count
    rows = (chosen + start.view(batch, heads, 1, 1)).flatten()
    # Whole rows are copied: several times faster than `torch.gather`, number by number.
    picked = values.reshape(-1, width).index_select(0, rows)
    return picked.view(*chosen.shape, width)


def recall(found: Pairs, best: Pairs) -> float:
    """The share of the exact selection that another one found, over all queries."""
    assert found.chosen is not None
    assert best.chosen is not None
    equal = found.chosen.unsqueeze(-1) == best.chosen.unsqueeze(-2)
    if found.alive is not None:
        equal = equal & found.alive.unsqueeze(-1)
    hit = equal.any(-2)
    if best.alive is None:
        return hit.float().mean().item()
    return ((hit & best.alive).sum() / best.alive.sum().clamp(min=1)).item()


SHORTEST = 1e-6
"""Least spacing of time stamps, so that equal stamps keep a finite logarithm."""


def key_spacing(
    times: Num[Tensor, "batch keys"],
    keep: Bool[Tensor, "batch keys"] | None,
    *,
    causal: bool,
) -> Float[Tensor, "batch keys"]:
    """The stretch of time each key stands for.

    By the trapezoid rule half the way to either neighbour; in a causal run, which does
    not know the next stamp, the way from the one before. Keys that are padding are
    nobody's neighbours.
    """
    if not times.is_floating_point():
        times = times.to(torch.float64)
    if keep is None:
        keep = torch.ones_like(times, dtype=torch.bool)
    times = times.masked_fill(~keep, 0)  # whatever it was
    # Padded before, not cut: a program of any length has no special ones.
    last = F.pad(times.masked_fill(~keep, -math.inf), (1, 0), value=-math.inf)
    last = last.cummax(-1).values[:, :-1]
    last = torch.where(last.isinf(), times, last)
    if causal:
        return (times - last).clamp(min=SHORTEST)
    following = F.pad(times.masked_fill(~keep, math.inf), (0, 1), value=math.inf)
    following = following.flip(-1).cummin(-1).values.flip(-1)[:, 1:]
    following = torch.where(following.isinf(), times, following)
    return ((following - last) / 2).clamp(min=SHORTEST)


def between(
    query_times: Num[Tensor, "batch queries"] | None,
    key_times: Num[Tensor, "batch keys"] | None,
    pairs: Pairs,
) -> Num[Tensor, "batch _heads queries pairs"] | None:
    """|t_query − t_key| of every pair."""
    if query_times is None or key_times is None:
        return None
    stamps = key_times[:, None, None]
    if pairs.chosen is not None:
        stamps = stamps.expand(*pairs.chosen.shape[:3], -1).gather(-1, pairs.chosen)
    return (query_times[:, None, :, None] - stamps).abs()


def masked_softmax(
    logits: Float[Tensor, "*batch pairs"], alive: Bool[Tensor, "*#batch pairs"] | None
) -> Float[Tensor, "*batch pairs"]:
    """Softmax over what is alive; zeros, not NaN, where nothing is."""
    if alive is None:
        return logits.softmax(-1)
    logits = logits.masked_fill(~alive, -math.inf)
    dead = ~alive.any(-1, keepdim=True)
    return logits.masked_fill(dead, 0).softmax(-1).masked_fill(dead, 0)


def dense_weights(
    weights: Float[Tensor, "batch heads queries pairs"], pairs: Pairs, keys: int
) -> Float[Tensor, "batch heads queries keys"]:
    """Weights at the positions of their keys, 0 elsewhere."""
    if pairs.chosen is None:
        return weights
    whole = weights.new_zeros((*weights.shape[:-1], keys))
    return whole.scatter_add(-1, pairs.chosen, weights)
