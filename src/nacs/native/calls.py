"""What the compiled code does, as functions of tensors."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nacs.native import library

__all__ = ["select", "usable"]


class View(ctypes.Structure):
    """`View` of native.c."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("head", ctypes.c_int64),
        ("row", ctypes.c_int64),
    )


class Select(ctypes.Structure):
    """`Select` of select.h."""

    _fields_ = (
        ("queries", View),
        ("keys", View),
        ("keep", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("alive", ctypes.c_void_p),
        *(
            (name, ctypes.c_int64)
            for name in (
                "heads",
                "count",
                "asked",
                "width",
                "pairs",
                "causal",
                "window",
                "first",
            )
        ),
    )


def usable(*tensors: Tensor) -> bool:
    """Whether the compiled code works on these: float or double on the CPU."""
    first = tensors[0].dtype
    return (
        first in SUFFIX
        and all(x.dtype == first and x.device.type == "cpu" for x in tensors)
        and _ready()
    )


@torch.compiler.assume_constant_result
def _ready() -> bool:
    return library() is not None


SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


@torch.library.custom_op("nacs::select", mutates_args=())
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
    queries, keys = _rows(queries), _rows(keys)
    chosen, alive = _select_like(queries, keys, keep, pairs, causal, window, first)
    keep = None if keep is None else keep.contiguous()
    batch, heads, asked, width = queries.shape
    call = Select(
        _view(queries),
        _view(keys),
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
    _in_parts("select", queries.dtype, call, batch * heads)
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


def _rows(tensor: Tensor) -> Tensor:
    """The same, with the numbers of a row side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _view(tensor: Tensor) -> View:
    return View(tensor.data_ptr(), *tensor.stride()[:3])


def _in_parts(name: str, dtype: torch.dtype, call: Any, parts: int) -> None:
    """Run a function for every (batch, head), on as many threads as torch has."""
    act: Callable[..., int] = getattr(library(), f"{name}_{SUFFIX[dtype]}")
    pointer = ctypes.byref(call)

    def one(part: int) -> int:
        return act(pointer, ctypes.c_int64(part))

    threads = min(torch.get_num_threads(), parts)
    run = map if threads == 1 else _pool(threads).map
    if any(run(one, range(parts))):
        raise MemoryError(f"no memory for the scratch of nacs.native's {name}.")


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nacs")


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
