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

HALF = (torch.bfloat16, torch.float16)


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
    if log_kernel is None:
        return F.scaled_dot_product_attention(queries, keys, values)
    flat = log_kernel.ndim == 2
    half = queries.dtype in HALF and not torch.compiler.is_compiling()
    if queries.device.type == "cpu" and (half or log_kernel.requires_grad):
        masks = log_kernel.unsqueeze(0) if flat else log_kernel
        return _gated(queries, keys, values, masks)[0]
    # One mask for all heads; the fused kernel wants two axes or four.
    mask = log_kernel if flat else log_kernel.unsqueeze(-3)
    mask = mask.to(queries.dtype)
    return F.scaled_dot_product_attention(queries, keys, values, mask)


@torch.library.custom_op("nacs::gated", mutates_args=())
def _gated(
    q: Tensor, k: Tensor, v: Tensor, log_kernel: Tensor
) -> tuple[Tensor, Tensor]:
    """What is heard, and the logarithm of every row's normaliser (not if half)."""
    if q.dtype in HALF:
        heard, normaliser = _like(q, k, v, log_kernel)
        for sample in range(len(q)):
            weights, alive = _half_weights(q, k, log_kernel, sample)
            torch.mul(weights @ v[sample], alive, out=heard[sample])
        return heard, normaliser
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    heard, normaliser = fused(q, k, v, attn_mask=log_kernel.unsqueeze(1).to(q.dtype))
    return heard, normaliser


def _half_weights(
    q: Tensor, k: Tensor, log_kernel: Tensor, sample: int
) -> tuple[Tensor, Tensor]:
    """Softmax of one sample's logits, and whether its receivers hear anybody at all."""
    mask = log_kernel[sample if len(log_kernel) > 1 else 0].to(q.dtype)
    alive = (mask > -torch.inf).any(-1, keepdim=True)
    mask = mask.clamp(min=torch.finfo(q.dtype).min)
    logits = (q[sample] * q.shape[-1] ** -0.5) @ k[sample].mT
    return logits.add_(mask).softmax(-1), alive


@_gated.register_fake
def _like(
    q: Tensor,
    k: Tensor,  # noqa: ARG001
    v: Tensor,  # noqa: ARG001
    log_kernel: Tensor,
) -> tuple[Tensor, Tensor]:
    batch, heads, rows, width = q.shape
    heard = q.new_empty((batch, rows, heads, width)).transpose(1, 2)
    kept = 0 if q.dtype in HALF else rows
    return heard, log_kernel.new_empty((batch, kept, heads)).transpose(1, 2)


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
    shrink, half = q.shape[-1] ** -0.5, q.dtype in HALF
    along = (d_out * out).sum(-1, keepdim=True)
    for sample, found_here in enumerate(zip(*found, strict=True)):
        d_q, d_k, d_v, d_mask = found_here
        one_q, one_k, heard = q[sample], k[sample], d_out[sample]
        if half:
            weights, alive = _half_weights(q, k, log_kernel, sample)
            heard = heard * alive
        else:
            mask = log_kernel[sample if len(log_kernel) > 1 else 0].to(q.dtype)
            weights = mask - normaliser[sample].unsqueeze(-1)
            weights = weights.baddbmm_(one_q, one_k.mT, alpha=shrink).exp_()
        d_v.copy_(weights.mT @ heard)
        slope = (heard @ v[sample].mT).sub_(along[sample]).mul_(weights)
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
