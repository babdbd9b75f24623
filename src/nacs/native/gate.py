"""What the way back of gated attention does between its products, compiled."""

import ctypes

import torch
from torch import Tensor

from nacs.native.parts import NUMBER, View, in_parts, side_by_side, usable, view_of

__all__ = ["gate", "plain_gate"]

GIVEN = ("score", "heard", "mask", "d_mask", "normaliser", "along")


class Call(ctypes.Structure):
    """`Gate` of gate.h."""

    _fields_ = (
        *((name, View) for name in GIVEN),
        *((name, NUMBER) for name in ("samples", "heads", "rows", "senders", "parts")),
        ("shrink", ctypes.c_double),
    )


def plain_gate(
    score: Tensor,
    heard: Tensor,
    mask: Tensor,
    d_mask: Tensor,
    normaliser: Tensor,
    along: Tensor,
    shrink: float,
) -> None:
    """The same in torch, on any device."""
    known = mask.unsqueeze(1) - normaliser.unsqueeze(-1)
    torch.add(known, score, alpha=shrink, out=score).exp_()
    heard.sub_(along.unsqueeze(-1)).mul_(score)
    d_mask.add_(heard.sum(1))


def gate(
    score: Tensor,
    heard: Tensor,
    mask: Tensor,
    d_mask: Tensor,
    normaliser: Tensor,
    along: Tensor,
    shrink: float,
) -> None:
    """Weights in the place of the scores, slopes in the place of what is heard.

    Both are changed where they are, and the mask's gradient is added to; the numbers of
    a row of these three lie side by side.

    Args:
        score: q kᵀ, (samples, heads, rows, senders).
        heard: dO vᵀ, as large.
        mask: Of the logits, (samples, rows, senders).
        d_mask: Its gradient, as large.
        normaliser: log Σ of every row, (samples, heads, rows).
        along: rowsum(dO ⊙ O), as large.
        shrink: 1 / √width.
    """
    given = (score, heard, mask, d_mask, normaliser, along)
    if not usable(*given):
        return plain_gate(*given, shrink)
    mask = side_by_side(mask)
    heads, threads = score.shape[1], torch.get_num_threads()
    masks = [m.unsqueeze(1).expand(-1, heads, -1, -1) for m in (mask, d_mask)]
    rows = [each.unsqueeze(-1) for each in (normaliser, along)]
    call = Call(*map(view_of, (score, heard, *masks, *rows)), *score.shape)
    call.parts, call.shrink = max(1, min(threads, score.shape[2])), shrink
    return in_parts("gate", call, call.parts, [*given, mask])
