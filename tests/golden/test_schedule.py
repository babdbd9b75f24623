"""Learning rates and repeated augmentation equal the released code's (exact).

Source: github.com/mweiss17/NeuralAttentiveCircuits@41ae372, recorded 2026-11-23.
"""

import pytest
import torch
from torch.testing import assert_close

from cases import load
from nacs.optim import learning_rate, repeated_augmentation


@pytest.mark.parametrize("name", ["tiny_paper", "inet_paper"])
def test_learning_rate(name):
    case = load("schedule_sampler", name)
    meta = case.meta
    scale = meta["global_batch"] / 512
    ours = [
        learning_rate(
            epoch,
            epochs=meta["epochs"],
            peak=meta["base_lr_per_512"] * scale,
            least=meta["min_lr_per_512"] * scale,
            warmup_epochs=meta["warmup_epochs"],
            warmup=meta["warmup_lr"],
        )
        for epoch in range(meta["epochs"])
    ]
    assert_close(torch.tensor(ours), case["lr"], atol=1e-10, rtol=0)


@pytest.mark.parametrize("rank", [0, 1])
def test_repeated_augmentation(rank):
    case = load("schedule_sampler", f"ra_rank{rank}")
    meta = case.meta
    ours = repeated_augmentation(
        meta["n"],
        epoch=meta["epoch"],
        rank=rank,
        replicas=meta["replicas"],
        repeats=meta["repeats"],
    )
    assert ours.tolist() == case["indices"].tolist()
