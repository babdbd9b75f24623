"""What the compiled code does for neuronal attention, as functions of tensors."""

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

__all__ = ["attend", "select"]


class Select(ctypes.Structure):
    """`Select` of select.h."""

    _fields_ = (
        *((name, View) for name in ("queries", "keys")),
        *((name, POINTER) for name in ("keep", "chosen", "alive")),
        *((name, NUMBER) for name in ("heads", "count", "asked", "width", "pairs")),
        *((name, NUMBER) for name in ("causal", "window", "first")),
    )


ROWS = ("q", "k", "v", "asking", "asked")
CIRCUIT = ("command", "bias", "recurrent", "heads_weight", "heads_bias")


class Attend(ctypes.Structure):
    """`Attend` of attend.h."""

    _fields_ = (
        *((name, View) for name in ROWS),
        *((name, POINTER) for name in ("chosen", "alive", "query_times", "key_times")),
        *((name, POINTER) for name in ("pace", "scale", *CIRCUIT)),
        ("out", View),
        ("weights", POINTER),
        *((f"d_{name}", View) for name in ("out", *ROWS)),
        *((name, POINTER) for name in ("d_weights", "d_shared")),
        *((name, NUMBER) for name in ("heads", "asked_count", "count", "width")),
        *((name, NUMBER) for name in ("pairs", "inter", "commands")),
        *((name, NUMBER) for name in ("circuit", "from_score")),
        ("shrink", ctypes.c_double),
    )


@operation("select")
def select(
    queries: Tensor,
    keys: Tensor,
    keep: Tensor | None,
    pairs: int,
    causal: bool,
    window: int,
    first: int,
) -> tuple[Tensor, Tensor]:
    """The best keys of every query, and which of those positions count.

    A NaN is a better score than any number, as for `torch.topk`.

    Args:
        queries: q, (batch, heads, queries, width).
        keys: k, (batch, heads, keys, width).
        keep: False where a key is padding, (batch, keys).
        pairs: How many, less than there are keys.
        causal: Whether a query sees no later key.
        window: Keys a causal query sees; 0 for all.
        first: Query i stands at key first + i.
    """
    batch, heads, asked, width = queries.shape
    expect("keys", keys, (batch, heads, keys.shape[2], width))
    if keep is not None:
        expect("keep", keep, (batch, keys.shape[2]), torch.bool)
    queries, keys = side_by_side(queries), side_by_side(keys)
    chosen, alive = _select_like(queries, keys, keep, pairs, causal, window, first)
    keep = None if keep is None else keep.contiguous()
    call = Select(
        view_of(queries),
        view_of(keys),
        None if keep is None else keep.data_ptr(),
        chosen.data_ptr(),
        alive.data_ptr(),
        heads,
        keys.shape[2],
        asked,
        width,
        pairs,
        causal,
        window,
        first,
    )
    read = [queries, keys, chosen, alive, *([] if keep is None else [keep])]
    in_parts("select", call, batch * heads, read)
    return chosen, alive


@select.register_fake
def _select_like(
    queries: Tensor,
    keys: Tensor,  # noqa: ARG001
    keep: Tensor | None,  # noqa: ARG001
    pairs: int,
    causal: bool,  # noqa: ARG001
    window: int,  # noqa: ARG001
    first: int,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    shape = (*queries.shape[:3], pairs)
    return (
        queries.new_empty(shape, dtype=torch.long),
        queries.new_empty(shape, dtype=torch.bool),
    )


@operation("attend")
def attend(
    rows: list[Tensor],
    chosen: Tensor,
    alive: Tensor | None,
    times: list[Tensor],
    scale: Tensor | None,
    circuit: list[Tensor],
    from_score: bool,
) -> tuple[Tensor, Tensor]:
    """Values heard by the queries, and the weights of their pairs.

    Logits are scores q · k / √width, or what the circuit makes of them in closed form.
    Gradients reach all but times and positions; they have no gradients themselves.

    Args:
        rows: q, k, v, each (batch, heads, queries or keys, width); with a circuit also
            what queries and keys send to its inter neurons.
        chosen: Positions of keys, (batch, heads, queries, pairs).
        alive: False where a position only fills up.
        times: Nothing for a horizon of 1, or time stamps of queries and of keys, and
            the pace of every head: the horizon is |t_query − t_key| · pace.
        scale: Of the logits of every head; None for 1.
        circuit: Nothing, or weights and bias of the command neurons, their recurrent
            weights, weights (2, command) and biases of drive and rate.
        from_score: Whether the circuit's logits start at the score, or at 0.
    """
    call, kept = _attend_call(rows, chosen, alive, times, scale, circuit, from_score)
    out, weights = _attend_like(rows, chosen, alive, times, scale, circuit, from_score)
    call.out, call.weights = view_of(out), weights.data_ptr()
    parts = chosen.shape[0] * chosen.shape[1]
    in_parts("attend", call, parts, [out, weights, *kept])
    return out, weights


@attend.register_fake
def _attend_like(
    rows: list[Tensor],
    chosen: Tensor,
    alive: Tensor | None,  # noqa: ARG001
    times: list[Tensor],  # noqa: ARG001
    scale: Tensor | None,  # noqa: ARG001
    circuit: list[Tensor],  # noqa: ARG001
    from_score: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return heads_inside(rows[0]), rows[0].new_empty(chosen.shape)


@operation("attend_back")
def _attend_back(
    d_out: Tensor,
    d_weights: Tensor | None,
    rows: list[Tensor],
    chosen: Tensor,
    alive: Tensor | None,
    times: list[Tensor],
    scale: Tensor | None,
    circuit: list[Tensor],
    from_score: bool,
) -> list[Tensor]:
    """Gradients of the rows, then those that all pairs of a head share in one row."""
    call, kept = _attend_call(rows, chosen, alive, times, scale, circuit, from_score)
    found = _attend_back_like(
        d_out, d_weights, rows, chosen, alive, times, scale, circuit, from_score
    )
    d_out = side_by_side(d_out)
    call.d_out = view_of(d_out)
    if d_weights is not None:
        d_weights = d_weights.contiguous()
        kept.append(d_weights)
        call.d_weights = d_weights.data_ptr()
    for name, tensor in zip(ROWS, found[:-1], strict=False):
        setattr(call, f"d_{name}", view_of(tensor))
    call.d_shared = found[-1].data_ptr()
    parts = chosen.shape[0] * chosen.shape[1]
    in_parts("attend_back", call, parts, [d_out, *found, *kept])
    return found


@_attend_back.register_fake
def _attend_back_like(
    d_out: Tensor,  # noqa: ARG001
    d_weights: Tensor | None,  # noqa: ARG001
    rows: list[Tensor],
    chosen: Tensor,
    alive: Tensor | None,  # noqa: ARG001
    times: list[Tensor],  # noqa: ARG001
    scale: Tensor | None,  # noqa: ARG001
    circuit: list[Tensor],
    from_score: bool,  # noqa: ARG001
) -> list[Tensor]:
    n, i = circuit[0].shape if circuit else (0, 0)
    shared = rows[0].new_empty((*chosen.shape[:2], 4 + n * (3 + i + n)))
    return [*(heads_inside(row) for row in rows), shared]


def _keep_for_back(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    rows, chosen, alive, times, scale, circuit, ctx.from_score = inputs
    lists = (rows, times, circuit)
    ctx.sizes = tuple(len(each) for each in lists)
    ctx.save_for_backward(chosen, alive, scale, *rows, *times, *circuit)
    ctx.set_materialize_grads(False)


def _back(ctx: Any, d_out: Tensor | None, d_weights: Tensor | None) -> tuple[Any, ...]:
    chosen, alive, scale, *rest = ctx.saved_tensors
    split = ctx.sizes[0], ctx.sizes[0] + ctx.sizes[1]
    rows, times, circuit = rest[: split[0]], rest[slice(*split)], rest[split[1] :]
    if d_out is None:
        d_out = torch.zeros_like(rows[0])
    *d_rows, shared = _attend_back(
        d_out, d_weights, rows, chosen, alive, times, scale, circuit, ctx.from_score
    )
    d_times = [None, None, shared[..., 1].sum(0)] if times else []
    d_scale = None if scale is None else shared[..., 0].sum(0)
    d_circuit: list[Tensor] = []
    if circuit:
        (n, i), whole = circuit[0].shape, shared.sum((0, 1))
        sizes = (2, 2 * n, n, i * n, n * n)
        biases, heads, bias, command, recurrent = whole[2:].split(sizes)
        d_circuit = [
            command.view(i, n).T,
            bias,
            recurrent.view(n, n).T,
            heads.view(2, n),
            biases,
        ]
    return d_rows, None, None, d_times, d_scale, d_circuit, None


attend.register_autograd(_back, setup_context=_keep_for_back)


def _attend_call(
    rows: list[Tensor],
    chosen: Tensor,
    alive: Tensor | None,
    times: list[Tensor],
    scale: Tensor | None,
    circuit: list[Tensor],
    from_score: bool,
) -> tuple[Attend, list[Tensor]]:
    """The call, and the tensors it points to, which have to outlive it."""
    batch, heads, asked, pairs = chosen.shape
    count, width = rows[1].shape[2:]
    expect("chosen", chosen, (batch, heads, asked, pairs), torch.long)
    for name, row in zip(ROWS, rows, strict=False):
        here = asked if name in ("q", "asking") else count
        wide = width if name in "qkv" else row.shape[3]
        expect(name, row, (batch, heads, here, wide))
    if alive is not None:
        expect("alive", alive, chosen.shape, torch.bool)
    for name, each, here in zip(("query", "key"), times, (asked, count), strict=False):
        expect(f"{name}_times", each, (batch, here))
    call, kept = Attend(from_score=from_score, circuit=bool(circuit)), []
    for name, tensor in zip(ROWS, map(side_by_side, rows), strict=False):
        setattr(call, name, view_of(tensor))
        kept.append(tensor)
    numbers = (chosen, alive, *(times or (None,) * 3), scale, *circuit)
    names = ("chosen", "alive", "query_times", "key_times", "pace", "scale", *CIRCUIT)
    for name, tensor in zip(names, numbers, strict=False):
        if tensor is not None:
            kept.append(tensor.contiguous())
            setattr(call, name, kept[-1].data_ptr())
    call.heads, call.asked_count, call.pairs = heads, asked, pairs
    call.count, call.width = count, width
    call.commands, call.inter = circuit[0].shape if circuit else (0, 0)
    call.shrink = call.width**-0.5
    return call, kept
