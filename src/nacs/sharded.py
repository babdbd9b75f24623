"""Fully sharded training (FSDP2): every process keeps a part of every weight.

    accelerate launch --use_fsdp --fsdp_version 2 --num_processes 8 -m nacs.cli train …

accelerate gathers the weights before they are used and hands every process its part
of the summed gradients; what is here is the way in and the way out.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed import DistError

from nacs.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["check_sharding", "partners", "parts", "shard", "whole"]


@contextmanager
def partners(accelerator: Accelerator, out: Path) -> Generator[None, None, None]:
    """Say in one line that another process of a run has ended, sharded or not.

    Args:
        accelerator: Of the run.
        out: Run folder, which the message names.

    Raises:
        UserError: In place of what the lost talk with that process raises.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, DistError) or "gloo" in str(error)
        if accelerator.num_processes == 1 or not lost:
            raise
        raise UserError(
            f"{out}: another process of this run has ended; start all of them again, "
            "and they go on from the last finished epoch."
        ) from error


def check_sharding(
    accelerator: Accelerator, *, ema: float, compiles: bool = False
) -> None:
    """Refuse what would not train as asked.

    Raises:
        UserError: For FSDP 1, for FSDP without an accelerator, which accelerate takes
            for plain data parallelism without a word, for averaged weights, and for
            compiled layers, which nobody tried.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and accelerator.distributed_type != DistributedType.FSDP:
        raise UserError(
            "FSDP was asked for, but accelerate shards over two or more accelerators "
            f"only, and here it found {accelerator.num_processes} process(es) on "
            f"`{accelerator.device.type}`; leave out --use_fsdp."
        )
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if not accelerator.is_fsdp2:
        raise UserError(
            "FSDP 1 hides the weights from the graph's regulariser; give "
            "--fsdp_version 2."
        )
    if ema:
        raise UserError(
            f"`ema` keeps whole weights, got ema={ema} under FSDP; set ema=0."
        )
    if compiles:
        raise UserError(
            "`compile` was never tried under FSDP, got compile=True; set compile=False."
        )


def shard(
    accelerator: Accelerator, model: nn.Module, optimiser: torch.optim.Optimizer
) -> nn.Module:
    """Divide a model and the moments of its optimiser over the processes, in place.

    FSDP2 knows no parameters without axes, so they get one of length 1; torch loads
    these where there is none. Whatever was loaded before this call stays.
    """
    for owner in model.modules():
        for name, weight in owner.named_parameters(recurse=False):
            if weight.ndim == 0:
                flat = nn.Parameter(weight.detach().view(1), weight.requires_grad)
                setattr(owner, name, flat)
    moments = optimiser.state_dict()["state"]
    prepared, _ = accelerator.prepare(model, optimiser)
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.state.clear()
    for index, values in moments.items():
        weight = weights[index]
        optimiser.state[weight] = {
            name: value if name == "step" else _part(value.view(weight.shape), weight)
            for name, value in values.items()
        }
    return prepared


def whole(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each gathered from all processes, which must all call it."""
    return {k: v.full_tensor() if _divided(v) else v for k, v in values.items()}


def parts(values: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, divided over the processes as those of `like` are."""
    return {k: _part(v, like[k]) for k, v in values.items()}


def _part(value: Tensor, like: Tensor) -> Tensor:
    if not _divided(like) or _divided(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements)


def _divided(value: Tensor) -> "TypeGuard[DTensor]":
    """Without the class itself: to import it takes half as long as torch does."""
    return hasattr(value, "full_tensor")
