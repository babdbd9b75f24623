"""Attention along the edges of a graph, compiled: forward, and back."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from nacs.checks import expect
from nacs.native.operation import operation
from nacs.native.parts import (
    NUMBER,
    POINTER,
    View,
    heads_inside,
    in_parts,
    side_by_side,
    view_of,
)

__all__ = ["edges"]

ROWS = ("q", "k", "v")


class Call(ctypes.Structure):
    """`Edges` of edges.h."""

    _fields_ = (
        *((name, View) for name in ROWS),
        *((name, POINTER) for name in ("starts", "columns", "bias")),
        ("out", View),
        ("normaliser", POINTER),
        *((f"d_{name}", View) for name in ("out", *ROWS)),
        ("d_bias", POINTER),
        *((name, NUMBER) for name in ("heads", "asked", "count", "width")),
        *((name, NUMBER) for name in ("tiles", "bias_batch")),
        ("shrink", ctypes.c_double),
    )


@operation("edges")
def edges(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    columns: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Values heard by every row, and the logarithm of its normaliser.

    The normaliser is for the way back; it has no gradient.

    Args:
        q: (batch, heads, rows, width).
        k: (batch, heads, columns, width).
        v: Of the shape of k.
        starts: Where the edges of every row in every tile of columns begin,
            (tiles · rows + 1) int64; a tile has ⌈columns / tiles⌉ of them.
        columns: Whom an edge comes from, (edges) int32, by tile, then by row.
        bias: Added to the logits, (batch or 1, edges).
    """
    call, kept = _call(q, k, v, starts, columns, bias)
    out, normaliser = _like(q, k, v, starts, columns, bias)
    call.out, call.normaliser = view_of(out), normaliser.data_ptr()
    in_parts("edges", call, q.shape[0] * q.shape[1], [out, normaliser, *kept])
    return out, normaliser


@edges.register_fake
def _like(
    q: Tensor,
    k: Tensor,  # noqa: ARG001
    v: Tensor,  # noqa: ARG001
    starts: Tensor,  # noqa: ARG001
    columns: Tensor,  # noqa: ARG001
    bias: Tensor | None,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return heads_inside(q), q.new_empty(q.shape[:3])


@operation("edges_back")
def _edges_back(
    d_out: Tensor,
    out: Tensor,
    normaliser: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    columns: Tensor,
    bias: Tensor | None,
) -> list[Tensor]:
    """Gradients of q, k and v, and of the bias of every head."""
    call, kept = _call(q, k, v, starts, columns, bias)
    found = _back_like(d_out, out, normaliser, q, k, v, starts, columns, bias)
    kept += [
        d_out := side_by_side(d_out),
        out := side_by_side(out),
        normaliser := normaliser.contiguous(),
    ]
    call.d_out, call.out, call.normaliser = (
        view_of(d_out),
        view_of(out),
        normaliser.data_ptr(),
    )
    for name, tensor in zip(ROWS, found, strict=False):
        setattr(call, f"d_{name}", view_of(tensor))
    if bias is not None:
        call.d_bias = found[3].data_ptr()
    in_parts("edges_back", call, q.shape[0] * q.shape[1], [*found, *kept])
    return found


@_edges_back.register_fake
def _back_like(
    d_out: Tensor,  # noqa: ARG001
    out: Tensor,  # noqa: ARG001
    normaliser: Tensor,  # noqa: ARG001
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,  # noqa: ARG001
    columns: Tensor,
    bias: Tensor | None,
) -> list[Tensor]:
    found = [heads_inside(each) for each in (q, k, v)]
    if bias is None:
        return found
    return [*found, q.new_empty((*q.shape[:2], columns.shape[0]))]


def _keep_for_back(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*output, *inputs)
    ctx.set_materialize_grads(False)


def _back(ctx: Any, d_out: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if d_out is None:
        return (None,) * 6
    bias = ctx.saved_tensors[-1]
    d_q, d_k, d_v, *d_bias = _edges_back(d_out, *ctx.saved_tensors)
    if bias is None:
        return d_q, d_k, d_v, None, None, None
    each = d_bias[0].sum(1)  # torch adds up what a shared bias gets from the batch
    return d_q, d_k, d_v, None, None, each


edges.register_autograd(_back, setup_context=_keep_for_back)


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    columns: Tensor,
    bias: Tensor | None,
) -> tuple[Call, list[Tensor]]:
    """The call, and the tensors it points to, which have to outlive it."""
    batch, heads, _, width = q.shape
    expect("keys", k, (batch, heads, k.shape[2], width))
    expect("values", v, k.shape)
    expect("starts", starts, starts.shape, torch.long)
    expect("senders", columns, columns.shape, torch.int32)
    if bias is not None:
        first = 1 if bias.shape[0] == 1 else batch
        expect("log_kernel", bias, (first, columns.shape[0]))
    kept = [side_by_side(each) for each in (q, k, v)]
    call = Call(**dict(zip(ROWS, map(view_of, kept), strict=True)))
    for name, each in (("starts", starts), ("columns", columns)):
        kept.append(each.contiguous())
        setattr(call, name, kept[-1].data_ptr())
    if bias is not None:
        kept.append(bias := bias.contiguous())
        call.bias = bias.data_ptr()
        call.bias_batch = columns.shape[0] if bias.shape[0] > 1 else 0
    _, call.heads, call.asked, call.width = q.shape
    call.count, call.tiles = k.shape[2], (starts.shape[0] - 1) // max(1, q.shape[2])
    call.shrink = q.shape[3] ** -0.5
    return call, kept
