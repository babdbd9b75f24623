"""Messages along the edges that are left, at the cost of those edges.

    mask → edge list, once           who hears whom, in the order of the compiled code
    logits of edges = q_i · k_j / √d + log K_ij
    softmax over each receiver's edges, weighted sum of the values

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, appendix F, which leaves
    sparse kernels to future work.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nacs.native.edges import edges as compiled
from nacs.native.parts import usable

if TYPE_CHECKING:  # otherwise where it is used: it takes as long to import as torch
    import torch.nn.attention.flex_attention

__all__ = [
    "DENSEST",
    "EdgeList",
    "block_attention",
    "edge_attention",
    "edge_list",
    "listed",
    "plain_edge_attention",
    "skipped_blocks",
]

TILE = 128
"""Senders whose keys, then values, are worked on at a time: they fit a first cache."""

FEWEST = 8
"""Edges of a receiver in a tile, at the mean: tiles of sparser graphs are larger."""

DENSEST = 0.4
"""Share of the pairs from which on dense attention is faster; benchmarks measure it."""


class EdgeList(NamedTuple):
    """Edges by tile of senders, then by receiver."""

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    starts: Int[Tensor, " bounds"]
    """Where the edges of every receiver in every tile begin, and where all end."""


def edge_list(mask: Bool[Tensor, "receivers senders"]) -> EdgeList:
    """The edges where a mask is True."""
    count, width = mask.shape
    receivers, senders = mask.nonzero(as_tuple=True)
    tile = max(TILE, FEWEST * mask.numel() / max(1, len(senders)))
    tiles = max(1, math.ceil(width / tile))
    each = math.ceil(width / tiles)
    row = senders // each * count + receivers
    order = row.argsort(stable=True)
    ends = torch.bincount(row, minlength=tiles * count).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    return EdgeList(receivers[order], senders[order].int(), starts)


def listed(
    mask: Bool[Tensor, "*batch receivers senders"] | None, like: Tensor
) -> EdgeList | None:
    """The edges of a mask where a list of them is faster than the mask, else None.

    That is on a processor, with compiled code, for one graph of all samples with at
    most `DENSEST` of its edges. A program being traced keeps the mask.
    """
    if mask is None or mask.ndim != 2 or torch.compiler.is_compiling():
        return None
    if mask.is_meta or not usable(like) or mask.sum() > DENSEST * mask.numel():
        return None
    return edge_list(mask)


def edge_attention(
    queries: Float[Tensor, "batch heads receivers head_width"],
    keys: Float[Tensor, "batch heads senders head_width"],
    values: Float[Tensor, "batch heads senders head_width"],
    edges: EdgeList,
    log_kernel: Float[Tensor, "#batch edges"] | None = None,
) -> Float[Tensor, "batch heads receivers head_width"]:
    """Attention of every receiver to the senders it has an edge from; zeros without.

    Args:
        queries: q.
        keys: k.
        values: v.
        edges: From `edge_list`.
        log_kernel: log K of every edge, added to the logits.
    """
    kind = queries.dtype  # half precision is worked on in float32
    exact = torch.promote_types(kind, torch.float32)
    q, k, v = (each.to(exact) for each in (queries, keys, values))
    bias = None if log_kernel is None else log_kernel.to(exact)
    if usable(q):
        heard = compiled(q, k, v, edges.starts, edges.senders, bias)[0]
    else:
        heard = plain_edge_attention(q, k, v, edges, bias)
    return heard.to(kind)


def plain_edge_attention(
    queries: Float[Tensor, "batch heads receivers head_width"],
    keys: Float[Tensor, "batch heads senders head_width"],
    values: Float[Tensor, "batch heads senders head_width"],
    edges: EdgeList,
    log_kernel: Float[Tensor, "#batch edges"] | None = None,
) -> Float[Tensor, "batch heads receivers head_width"]:
    """The same in plain steps, on any device; copies a row of keys for every edge."""
    to, come = edges.receivers, edges.senders.long()
    asked = queries.index_select(2, to) * queries.shape[-1] ** -0.5
    logits = (asked * keys.index_select(2, come)).sum(-1)
    if log_kernel is not None:
        logits = logits + log_kernel.unsqueeze(1)
    place = to.expand(logits.shape)
    top = logits.new_full(queries.shape[:3], -math.inf)
    top = top.scatter_reduce(2, place, logits.detach(), "amax")
    top = top.masked_fill(top == -math.inf, 0)
    weights = (logits - top.gather(2, place)).exp()
    total = torch.zeros_like(top).index_add(2, to, weights)
    heard = torch.zeros_like(queries).index_add(
        2, to, weights.unsqueeze(-1) * values.index_select(2, come)
    )
    return heard / total.masked_fill(total == 0, 1).unsqueeze(-1)


BLOCK_DEVICES = ("cuda",)
"""Devices on which FlexAttention skips blocks of pairs. Not measured by us."""

FULLEST = 0.5
"""Share of the blocks with an edge from which on none are skipped. Not measured."""


def skipped_blocks(
    mask: Bool[Tensor, "receivers senders"],
) -> "torch.nn.attention.flex_attention.BlockMask | None":
    """The blocks of pairs without an edge, where skipping them may pay, else None.

    That is on a GPU, for a graph that leaves half of the blocks of 128 × 128 pairs
    empty: linked modules have to lie side by side, as `freeze` puts them.
    """
    if mask.device.type not in BLOCK_DEVICES or mask.ndim != 2:
        return None
    from torch.nn.attention.flex_attention import create_block_mask

    blocks = create_block_mask(
        lambda _batch, _head, i, j: mask[i, j],
        None,
        None,
        *mask.shape,
        device=mask.device.type,
    )
    return blocks if blocks.sparsity() >= 100 * (1 - FULLEST) else None


def block_attention(
    queries: Float[Tensor, "batch heads receivers head_width"],
    keys: Float[Tensor, "batch heads senders head_width"],
    values: Float[Tensor, "batch heads senders head_width"],
    log_kernel: Float[Tensor, "receivers senders"],
    blocks: "torch.nn.attention.flex_attention.BlockMask",
) -> Float[Tensor, "batch heads receivers head_width"]:
    """The same from a whole matrix of log K, block by block, by FlexAttention.

    Args:
        queries: q.
        keys: k.
        values: v.
        log_kernel: Added to the logits, −∞ where there is no edge.
        blocks: From `skipped_blocks`.
    """
    from torch.nn.attention.flex_attention import flex_attention

    def with_kernel(score: Tensor, _b: Any, _h: Any, i: Tensor, j: Tensor) -> Tensor:
        return score + log_kernel[i, j]

    attend: Any = _fused() if queries.is_cuda else flex_attention
    return attend(queries, keys, values, score_mod=with_kernel, block_mask=blocks)


@lru_cache(maxsize=1)
def _fused() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
