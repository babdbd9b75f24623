"""The two probes of ability, small: what attention must be able to do, it does."""

from dataclasses import replace

import pytest
import torch

from nacs.data.generated import make_integral, make_recall
from nacs.data.splits import assemble
from nacs.neuronal import presets
from nacs.recipe import TrainConfig
from nacs.tasks import tokenizer_for
from nacs.train import train


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def score(samples, out, *, pooling, epochs, **changes):
    """Test figures of a small neuronal model trained on a probe."""
    dataset = assemble(samples, seed=0)
    config = presets.tiny()
    config = replace(
        config,
        tokenizer=tokenizer_for(dataset, config.tokenizer),
        attention=replace(config.attention, **changes),
        classes=dataset.outputs,
        pooling=pooling,
    )
    training = TrainConfig(epochs=epochs, batch=32, learning_rate=5e-3)
    return train("neuronal", config, dataset, training, out)


def test_associative_recall(tmp_path):
    """Half of the keys are kept, so the selection itself must learn."""
    samples = make_recall(1000, keys=8, values=4)
    usual = {"pooling": "last", "epochs": 14, "top_k": 4}
    assert score(samples, tmp_path / "a", **usual)["test_accuracy"] >= 0.99
    zero = score(samples, tmp_path / "b", **usual, start="zero")
    assert zero["test_accuracy"] < 0.9  # from 0, nothing trains the selection


def test_integral_of_an_irregularly_sampled_function(tmp_path):
    samples = make_integral(1000, count=32)
    usual = {"pooling": "mean", "epochs": 12, "top_k": 0}
    by_time = score(samples, tmp_path / "a", **usual, integration="quadrature")
    by_samples = score(samples, tmp_path / "b", **usual)
    assert by_time["test_loss"] < 0.15
    assert by_time["test_loss"] < by_samples["test_loss"]
