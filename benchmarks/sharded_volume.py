"""What a training step under FSDP2 moves between two processes, counted.

Run:  ACCELERATE_USE_CPU=1 OMP_NUM_THREADS=1 python -m torch.distributed.run \
          --standalone --nproc-per-node 2 benchmarks/sharded_volume.py

Into results/scaling.json. The numbers are those that go into collectives, of the whole
ring; a process receives (n − 1)/n of them. Needs torch 2.13, whose names it wraps.
"""

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from nacs.attentive import AttentiveCircuit, presets
from nacs.sharded import shard
from timing import record


def counting(name, moved):
    """Make a collective count the numbers of its larger side."""
    act = getattr(dist, name)

    def counted(*given, **options):
        every = (*given, *options.values())
        numbers = max(each.numel() for each in every if isinstance(each, torch.Tensor))
        moved[name] = moved.get(name, 0) + numbers
        return act(*given, **options)

    setattr(dist, name, counted)


def main():
    moved = {}
    for name in ("all_gather_single", "reduce_scatter_single"):
        counting(name, moved)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Propagator"],
    )
    accelerator = Accelerator(fsdp_plugin=plugin)
    # As in tests/unit/test_sharded.py: on processors accelerate would not shard.
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    torch.manual_seed(0)
    model = AttentiveCircuit(presets.small())
    whole = sum(each.numel() for each in model.parameters())
    layers = sum(each.numel() for each in model.propagators.parameters())
    optimiser = torch.optim.AdamW(model.parameters())
    sharded = shard(accelerator, model, optimiser)
    pictures = torch.randn(2, 3, 32, 32)
    accelerator.backward(sharded(pictures).square().mean())
    optimiser.step()
    if accelerator.is_main_process:
        sizes = {"parameters": whole, "of_layers": layers}
        record("scaling", "collectives of a step, FSDP2, small", sizes | moved)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
