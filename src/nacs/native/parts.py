"""What the functions of the compiled code share: views, room for results, threads."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nacs.native import library

__all__ = [
    "NUMBER",
    "POINTER",
    "View",
    "heads_inside",
    "in_parts",
    "side_by_side",
    "transformed",
    "usable",
    "view_of",
]

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64


class View(ctypes.Structure):
    """`View` of native.c."""

    _fields_ = (("data", POINTER), *((n, NUMBER) for n in ("batch", "head", "row")))


def transformed() -> bool:
    """Whether `torch.func` is at work (vmap, grad and the like).

    Its transforms look into what torch does, not into operations of our own.
    """
    return torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]


def usable(*tensors: Tensor, half: bool = False) -> bool:
    """Whether the compiled code works on these: float or double on the CPU.

    Args:
        tensors: All of one type.
        half: Whether it knows bfloat16 too.
    """
    first = tensors[0].dtype
    return (
        first in SUFFIX
        and (half or first is not torch.bfloat16)
        and not transformed()
        and all(x.dtype == first and x.device.type == "cpu" for x in tensors)
        and _ready()
    )


def _ready() -> bool:
    return library() is not None


# What `torch.compiler.assume_constant_result` does, which imports the compiler for it:
# that takes as long as torch itself.
_ready.__dict__["_dynamo_marked_constant"] = True


SUFFIX = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}


def heads_inside(like: Tensor) -> Tensor:
    """Room for (batch, heads, rows, width) that merges its heads without a copy."""
    batch, heads, rows, width = like.shape
    return like.new_empty((batch, rows, heads, width)).transpose(1, 2)


def side_by_side(tensor: Tensor) -> Tensor:
    """The same, with the numbers of a row side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def view_of(tensor: Tensor) -> View:
    """A tensor (batch, heads, rows, width) as the compiled code sees it."""
    return View(tensor.data_ptr(), *tensor.stride()[:3])


def in_parts(name: str, call: Any, parts: int, read: list[Tensor]) -> None:
    """Run a function for every (batch, head), on as many threads as torch has.

    Args:
        name: Of the function.
        call: Its arguments.
        parts: How many.
        read: The tensors it points to, the first of the type of all numbers. A thread
            that outlives an interrupted call still needs them.
    """
    act: Callable[..., int] = getattr(library(), f"{name}_{SUFFIX[read[0].dtype]}")
    pointer = ctypes.byref(call)

    def one(part: int, _: Any = (call, read)) -> int:
        return act(pointer, ctypes.c_int64(part))

    threads = max(1, min(torch.get_num_threads(), parts))
    run = map if threads == 1 else _pool(threads).map
    if sum(run(one, range(parts))):  # waits for all of them
        raise MemoryError(f"no memory for the scratch of nacs.native's {name}.")


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nacs")


# A forked child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
