"""Attention whose mask learns, without keeping anything as large as its weights.

torch's fused attention gives its mask no gradient; with one that has, it writes out all
weights of all samples and heads. Here the way forward is the fused one, and the way
back computes the weights again, some rows of a head at a time, or all rows of some
samples, so that they stay in the cache:

    W = exp(q kᵀ / √d + log K − log Σ),   D = W ⊙ (dO vᵀ − rowsum(dO ⊙ O))
    dq = D k / √d,   dk = Dᵀ q / √d,   dv = Wᵀ dO,   d log K = Σ_heads D

In bfloat16 log K, logits, W and D are float32; the four other products are not.

References:
    Dao et al., FlashAttention, NeurIPS 2022, algorithm 4: the same way back, to which
    the gradient of the mask is added. https://arxiv.org/abs/2205.14135
"""

import math
from itertools import product
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from nacs.native.gate import gate
from nacs.native.operation import operation
from nacs.native.parts import transformed

__all__ = ["gated_attention"]

Known: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""A mask and its gradient; normalisers of rows and what D subtracts from them."""

BLOCK = 2**18
"""Weights that are computed again at a time: 1 MB, as second caches."""


def gated_attention(
    queries: Float[Tensor, "batch heads receivers head_width"],
    keys: Float[Tensor, "batch heads senders head_width"],
    values: Float[Tensor, "batch heads senders head_width"],
    log_kernel: Float[Tensor, "*#batch #receivers senders"] | None,
) -> Float[Tensor, "batch heads receivers head_width"]:
    """Attention with log K added to the logits of every head.

    A receiver whose log K is −∞ everywhere gets zeros. Without a gradient of log K, or
    on another device than the processor, or in float16, it is torch's own; under
    `torch.func`, which cannot see whose gradient is asked for, torch's plain one.

    Args:
        queries: q.
        keys: k.
        values: v.
        log_kernel: Without a batch axis, with one of 1, or one for every sample.
    """
    if log_kernel is None:
        return F.scaled_dot_product_attention(queries, keys, values)
    flat = log_kernel.ndim == 2
    # One mask for all heads; the fused kernel wants two axes or four.
    mask = (log_kernel if flat else log_kernel.unsqueeze(-3)).to(queries.dtype)
    if torch.compiler.is_exporting():  # elsewhere a row of −∞ alone may become NaN
        dead = (mask == -math.inf).all(-1, keepdim=True)
        mask = mask.masked_fill(dead, 0)
        heard = F.scaled_dot_product_attention(queries, keys, values, mask)
        return heard.masked_fill(dead, 0)
    if transformed():
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(queries, keys, values, mask)
    suits = queries.device.type == "cpu" and queries.dtype != torch.float16
    if suits and queries.ndim == 4 and log_kernel.requires_grad:
        masks = log_kernel.unsqueeze(0) if flat else log_kernel
        masks = masks.to(torch.promote_types(queries.dtype, torch.float32))
        return _gated(queries, keys, values, masks)[0]
    return F.scaled_dot_product_attention(queries, keys, values, mask)


@operation("gated")
def _gated(
    q: Tensor, k: Tensor, v: Tensor, log_kernel: Tensor
) -> tuple[Tensor, Tensor]:
    """What is heard, and the logarithm of every row's normaliser."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    heard, normaliser = fused(q, k, v, attn_mask=log_kernel.unsqueeze(1))
    return heard, normaliser


@_gated.register_fake
def _like(
    q: Tensor,
    k: Tensor,  # noqa: ARG001
    v: Tensor,  # noqa: ARG001
    log_kernel: Tensor,
) -> tuple[Tensor, Tensor]:
    batch, heads, rows, width = q.shape
    heard = q.new_empty((batch, rows, heads, width)).transpose(1, 2)
    return heard, log_kernel.new_empty((batch, rows, heads)).transpose(1, 2)


@operation("gated_back")
def _gated_back(
    d_out: Tensor,
    out: Tensor,
    normaliser: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_kernel: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and of every sample's log kernel."""
    found = _back_like(d_out, out, normaliser, q, k, v, log_kernel)
    found[3].zero_()
    along = (d_out.to(log_kernel.dtype) * out).sum(-1)
    masks = log_kernel.expand(len(q), q.shape[2], -1)
    weights = math.prod(q.shape[1:3]) * k.shape[2]
    if several := BLOCK // max(1, weights):
        for start in range(0, len(q), several):
            part = slice(start, start + several)
            known = masks[part], found[3][part], normaliser[part], along[part]
            inputs = [each[part] for each in (q, d_out, k, v)]
            _samples_back(known, inputs, [each[part] for each in found[:3]])
        return found
    # What is added to lies transposed: products with a transposed block are slower.
    of_k, of_v = (each.new_zeros(each.mT.shape) for each in found[1:3])
    step = max(1, BLOCK // max(1, k.shape[2]))
    room = masks.new_empty((2, min(step, q.shape[2]), k.shape[2]))
    for start in range(0, q.shape[2], step):
        cut = slice(start, start + step)
        asked = [each[:, :, cut] for each in (q, d_out, found[0])]
        for sample, head in product(range(len(q)), range(q.shape[1])):
            one, its = slice(sample, sample + 1), slice(head, head + 1)
            totals = normaliser[one, its, cut], along[one, its, cut]
            known = masks[one, cut], found[3][one, cut], *totals
            rows = [each[sample, head] for each in (*asked, k, v, of_k, of_v)]
            _block_back(known, rows, room)
    found[1].copy_(of_k.mT)
    found[2].copy_(of_v.mT)
    return found


def _samples_back(known: Known, inputs: list[Tensor], found: list[Tensor]) -> None:
    """Gradients of some samples, as one batch of all their heads; see `_block_back`."""
    q, d_out, k, v = (each.flatten(0, 1) for each in inputs)
    d_q, d_k, d_v = found
    shrink, exact, kind = q.shape[-1] ** -0.5, known[0].dtype, q.dtype
    shape = *inputs[0].shape[:3], k.shape[1]
    weights, slope = q.to(exact) @ k.mT.to(exact), (d_out @ v.mT).to(exact)
    gate(weights.view(shape), slope.view(shape), *known, shrink)
    weights, slope = weights.to(kind), slope.to(kind)
    torch.mul((slope @ k).view(d_q.shape), shrink, out=d_q)
    torch.mul((slope.mT @ q).view(d_k.shape), shrink, out=d_k)
    d_v.copy_((weights.mT @ d_out).view(d_v.shape))


def _block_back(known: Known, rows: list[Tensor], room: Tensor) -> None:
    """Gradients of some rows of one head, added to those of its keys and the mask."""
    q, d_out, d_q, k, v, of_k, of_v = rows
    shrink, exact, kind = q.shape[-1] ** -0.5, room.dtype, q.dtype
    weights, slope = room[:, : len(q)]
    torch.mm(q.to(exact), k.mT.to(exact), out=weights)
    if kind == exact:
        torch.mm(d_out, v.mT, out=slope)
    else:
        slope.copy_(d_out @ v.mT)
    gate(weights[None, None], slope[None, None], *known, shrink)
    weights, slope = weights.to(kind), slope.to(kind)
    of_v.addmm_(d_out.mT, weights)
    of_k.addmm_(q.mT, slope, alpha=shrink)
    torch.mul(slope @ k, shrink, out=d_q)


@_gated_back.register_fake
def _back_like(
    d_out: Tensor,  # noqa: ARG001
    out: Tensor,  # noqa: ARG001
    normaliser: Tensor,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_kernel: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside = [
        each.new_empty(each.transpose(1, 2).shape).transpose(1, 2) for each in (q, k, v)
    ]
    mask = log_kernel.new_empty((q.shape[0], q.shape[2], k.shape[2]))
    return inside[0], inside[1], inside[2], mask


def _keep_for_back(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*output, *inputs)
    ctx.set_materialize_grads(False)


def _back(ctx: Any, d_out: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if d_out is None:
        return (None,) * 4
    d_q, d_k, d_v, d_mask = _gated_back(d_out, *ctx.saved_tensors)
    if ctx.saved_tensors[-1].shape[0] == 1:
        d_mask = d_mask.sum(0, keepdim=True)
    return d_q, d_k, d_v, d_mask


_gated.register_autograd(_back, setup_context=_keep_for_back)
