"""Modulation, and GEGLU before it, compiled: forward, and back in one pass each."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nacs.native.operation import operation
from nacs.native.parts import NUMBER, POINTER, in_parts

__all__ = ["geglu", "plain_geglu", "plain_rescale", "rescale"]


class Call(ctypes.Structure):
    """`Modulate` of modulate.h."""

    _fields_ = (
        *((name, POINTER) for name in ("given", "scale", "out")),
        *((name, POINTER) for name in ("d_out", "d_given", "d_scale")),
        *((name, NUMBER) for name in ("batch", "modules", "channels", "parts")),
        ("exact", NUMBER),
    )


def plain_geglu(wide: Tensor, scale: Tensor | None) -> Tensor:
    """The same in torch, on any device."""
    value, gate = wide.chunk(2, -1)
    out = value * F.gelu(gate)
    return out if scale is None else out * scale


def plain_rescale(states: Tensor, scale: Tensor, half: bool = False) -> Tensor:
    """The same in torch, on any device."""
    out = states * scale
    return out.to(torch.bfloat16) if half else out


@operation("geglu")
def geglu(wide: Tensor, scale: Tensor | None) -> Tensor:
    """The first half of the channels times GELU of the second, times a scale.

    Args:
        wide: (batch, modules, 2 · hidden), of float32, float64 or bfloat16.
        scale: (modules, hidden), of float32 where `wide` is of bfloat16.
    """
    out = _hidden_like(wide, scale)
    _run("geglu", [out], wide, scale, out)
    return out


@geglu.register_fake
def _hidden_like(wide: Tensor, scale: Tensor | None) -> Tensor:  # noqa: ARG001
    return wide.new_empty((*wide.shape[:-1], wide.shape[-1] // 2))


@operation("geglu_back")
def _geglu_back(d_out: Tensor, wide: Tensor, scale: Tensor | None) -> list[Tensor]:
    """Gradients of `wide` and, if there is one, of the scale."""
    found = _back_like(d_out, wide, scale)
    _run("geglu_back", found, wide, scale, d_out)
    return found


@operation("rescale")
def rescale(states: Tensor, scale: Tensor, half: bool) -> Tensor:
    """States times a scale.

    Args:
        states: (batch, modules, channels), of float32 or float64, or of bfloat16 if
            the result is.
        scale: (modules, channels), of float32 or float64.
        half: Whether the result is of bfloat16.
    """
    out = _scaled_like(states, scale, half)
    _run("rescale", [out], states, scale, out)
    return out


@rescale.register_fake
def _scaled_like(states: Tensor, scale: Tensor, half: bool) -> Tensor:  # noqa: ARG001
    kind = torch.bfloat16 if half else states.dtype
    return states.new_empty(states.shape, dtype=kind)


@operation("rescale_back")
def _rescale_back(d_out: Tensor, states: Tensor, scale: Tensor) -> list[Tensor]:
    """Gradients of the states and of the scale."""
    found = _back_like(d_out, states, scale)
    _run("rescale_back", found, states, scale, d_out)
    return found


@_rescale_back.register_fake
@_geglu_back.register_fake
def _back_like(
    d_out: Tensor,  # noqa: ARG001
    given: Tensor,
    scale: Tensor | None,
) -> list[Tensor]:
    each = given.new_empty(given.shape)
    return [each] if scale is None else [each, scale.new_zeros(scale.shape)]


def _keep_for_back(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])
    ctx.more = inputs[2:]


def _slopes(ctx: Any, d_out: Tensor, plain: Any, back: Any) -> tuple[Any, ...]:
    """Gradients; where they need gradients of their own, torch's."""
    inputs = ctx.saved_tensors
    if torch.is_grad_enabled():
        asked = [each for each in inputs if each is not None]
        found = plain(*inputs, *ctx.more)
        slopes = torch.autograd.grad(found, asked, d_out, create_graph=True)
    else:
        slopes = back(d_out, *inputs)
    second = None if inputs[1] is None else slopes[1]
    return slopes[0], second, *[None for _ in ctx.more]


geglu.register_autograd(
    lambda ctx, d_out: _slopes(ctx, d_out, plain_geglu, _geglu_back),
    setup_context=_keep_for_back,
)
rescale.register_autograd(
    lambda ctx, d_out: _slopes(ctx, d_out, plain_rescale, _rescale_back),
    setup_context=_keep_for_back,
)


def _run(
    name: str, made: list[Tensor], given: Tensor, scale: Tensor | None, out: Tensor
) -> None:
    """Call a function of modulate.h.

    Args:
        name: Of the function.
        made: What it writes: the result, or on the way back the gradients.
        given: What is modulated.
        scale: By what.
        out: The result, or its gradient.
    """
    given, out = given.contiguous(), out.contiguous()
    call = Call(given=given.data_ptr())
    call.batch, call.modules, call.channels = out.shape
    call.parts = max(1, min(torch.get_num_threads(), call.modules))
    call.exact = given.dtype is not torch.bfloat16
    kept = [out, given, *made]
    if scale is not None:
        kept.append(scale := scale.contiguous())
        call.scale = scale.data_ptr()
    if name.endswith("back"):
        call.d_out, call.d_given = out.data_ptr(), made[0].data_ptr()
        call.d_scale = made[1].data_ptr() if scale is not None else None
    else:
        call.out = out.data_ptr()
    in_parts(name, call, call.parts, kept)
