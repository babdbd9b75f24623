"""Attention whose mask learns, without keeping anything as large as its weights.

torch's fused attention gives its mask no gradient; with one that has, it writes out all
weights of all samples and heads. Here the way forward is the fused one, and the way
back computes the weights again, a sample at a time, so that they stay in the cache:

    W = exp(q kᵀ / √d + log K − log Σ),   D = W ⊙ (dO vᵀ − rowsum(dO ⊙ O))
    dq = D k / √d,   dk = Dᵀ q / √d,   dv = Wᵀ dO,   d log K = Σ_heads D

References:
    Dao et al., FlashAttention, NeurIPS 2022, algorithm 4: the same way back, to which
    the gradient of the mask is added. https://arxiv.org/abs/2205.14135
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["gated_attention"]


def gated_attention(
    queries: Float[Tensor, "batch heads receivers head_width"],
    keys: Float[Tensor, "batch heads senders head_width"],
    values: Float[Tensor, "batch heads senders head_width"],
    log_kernel: Float[Tensor, "*#batch receivers senders"] | None,
) -> Float[Tensor, "batch heads receivers head_width"]:
    """Attention with log K added to the logits of every head.

    A receiver whose log K is −∞ everywhere gets zeros. Without a gradient of log K, or
    on another device than the processor, it is torch's own. On a processor the way
    forward of half precision is worked on in float32, which is faster there.

    Args:
        queries: q.
        keys: k.
        values: v.
        log_kernel: Without a batch axis, with one of 1, or one for every sample.
    """
    kind, local = queries.dtype, queries.device.type == "cpu"
    if log_kernel is not None and log_kernel.requires_grad and local:
        masks = log_kernel.unsqueeze(0) if log_kernel.ndim == 2 else log_kernel
        return _gated(queries, keys, values, masks)[0]
    work = torch.promote_types(kind, torch.float32) if local else kind
    q, k, v = (each.to(work) for each in (queries, keys, values))
    mask = None
    if log_kernel is not None:  # one for all heads; the kernel wants two axes or four
        mask = log_kernel if log_kernel.ndim == 2 else log_kernel.unsqueeze(-3)
        mask = mask.to(work)
    with torch.autocast(queries.device.type, enabled=False):
        return F.scaled_dot_product_attention(q, k, v, mask).to(kind)


@torch.library.custom_op("nacs::gated", mutates_args=())
def _gated(
    q: Tensor, k: Tensor, v: Tensor, log_kernel: Tensor
) -> tuple[Tensor, Tensor]:
    """What is heard, and the logarithm of every row's normaliser."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    kind, work = q.dtype, torch.promote_types(q.dtype, torch.float32)
    mask = log_kernel.unsqueeze(1).to(work)
    each = (one.to(work) for one in (q, k, v))
    heard, normaliser = fused(*each, attn_mask=mask)
    return heard.to(kind), normaliser


@_gated.register_fake
def _like(
    q: Tensor,
    k: Tensor,  # noqa: ARG001
    v: Tensor,  # noqa: ARG001
    log_kernel: Tensor,
) -> tuple[Tensor, Tensor]:
    batch, heads, rows, width = q.shape
    heard = q.new_empty((batch, rows, heads, width)).transpose(1, 2)
    kind = torch.promote_types(q.dtype, torch.float32)
    normaliser = log_kernel.new_empty((batch, rows, heads), dtype=kind)
    return heard, normaliser.transpose(1, 2)


@torch.library.custom_op("nacs::gated_back", mutates_args=())
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
    shrink, kind = q.shape[-1] ** -0.5, q.dtype
    along = (d_out * out).sum(-1, keepdim=True)
    masks = log_kernel.expand(len(q), -1, -1)
    rows = (q, k, v, d_out, masks, normaliser.unsqueeze(-1), along)
    for part in zip(*rows, *found, strict=True):
        one_q, one_k, one_v, d_one, mask, total, dot, d_q, d_k, d_v, d_mask = part
        weights = mask - total
        if kind == weights.dtype:
            weights = weights.baddbmm_(one_q, one_k.mT, alpha=shrink).exp_()
        else:  # half precision: the logits are added up in float32
            weights = weights.add_(one_q @ one_k.mT, alpha=shrink).exp_().to(kind)
        d_v.copy_(weights.mT @ d_one)
        slope = (d_one @ one_v.mT).sub_(dot).mul_(weights)
        torch.sum(slope, 0, dtype=d_mask.dtype, out=d_mask)
        torch.mul(slope @ one_k, shrink, out=d_q)
        torch.mul(slope.mT @ one_q, shrink, out=d_k)
    return found


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
