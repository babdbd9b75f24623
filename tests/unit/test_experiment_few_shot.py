"""Adaptation to few samples: the model given stays, the new one fits them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nacs import data
from nacs.attentive import AttentiveCircuit, presets
from nacs.baselines.transformer import Transformer, TransformerConfig
from nacs.errors import UserError
from nacs.evaluation import evaluate, predict
from nacs.experiments.adapt import features, last_layer, probe, tuned, with_last
from nacs.tasks import fitted


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def digits():
    return data.load("digits")


@pytest.fixture
def model(digits):
    return AttentiveCircuit(fitted(presets.tiny(), digits)).eval()


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_tuning_fits_the_samples_and_leaves_the_model_given(digits, model):
    few, before = digits.train.take(range(16)), weights(model)
    state = torch.get_rng_state()
    found = tuned(model, few, steps=60, batch=16, rate=1e-2, seed=0)
    assert evaluate(found, few)["accuracy"] > evaluate(model, few)["accuracy"] + 0.3
    assert not found.training
    assert not model.training
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert (torch.get_rng_state() == state).all()
    moved = [
        name for name, value in weights(found).items() if (value != before[name]).any()
    ]
    trained = {name for name, _ in model.named_parameters()}
    assert trained == set(moved)


def test_tuning_is_decided_by_its_seed(digits, model):
    few = digits.train.take(range(16))
    first, again, other = (
        tuned(model, few, steps=3, batch=4, rate=1e-2, seed=seed) for seed in (1, 1, 2)
    )
    assert_close(weights(first), weights(again), rtol=0, atol=0)
    name, _ = last_layer(model)
    assert (weights(first)[f"{name}.weight"] != weights(other)[f"{name}.weight"]).any()


def test_tuning_for_no_steps_is_a_copy(digits, model):
    found = tuned(model, digits.train, steps=0, batch=4, rate=1e-2, seed=0)
    assert_close(weights(found), weights(model), rtol=0, atol=0)
    assert found is not model


@pytest.mark.parametrize("targets", [np.zeros(4, np.float32), np.zeros(0, np.int64)])
def test_tuning_needs_samples_with_classes(digits, model, targets):
    few = replace(digits.train.take(range(len(targets))), targets=targets)
    with pytest.raises(UserError, match="integer classes"):
        tuned(model, few, steps=1, batch=4, rate=1e-2, seed=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda like: AttentiveCircuit(like),
        lambda like: AttentiveCircuit(presets.perceiver(like)),
        lambda like: Transformer(
            TransformerConfig(tokenizer=like.tokenizer, width=32, heads=2, layers=1)
        ),
    ],
    ids=["circuit", "perceiver", "transformer"],
)
def test_the_last_layer_of_the_features_gives_the_logits(digits, build):
    model = build(fitted(presets.tiny(), digits)).eval()
    split = digits.val.take(range(12))
    found = features(model, split, batch=5)
    assert_close(last_layer(model)[1](found), predict(model, split))
    assert not last_layer(model)[1]._forward_pre_hooks
    layer = nn.Linear(found.shape[1], 3)
    other = with_last(model, layer)
    assert_close(predict(other, split), layer(found))
    assert predict(model, split).shape == (12, 10)
    assert other.config.classes == 3
    assert last_layer(other)[1] is not layer


def test_a_model_without_a_last_layer_is_named():
    with pytest.raises(UserError, match="to_logits.*Sequential"):
        last_layer(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_probe_is_logistic_regression(classes):
    """The same logits, but for a constant, as scikit-learn's."""
    linear = pytest.importorskip("sklearn.linear_model")
    torch.manual_seed(0)
    targets = torch.arange(40) % classes
    known = torch.randn(40, 6) * torch.tensor([1, 2, 3, 4, 5, 1e-3]) + 7
    known += nn.functional.one_hot(targets, 6)
    like, decay = torch.cat([known, torch.randn(50, 6)]), 0.05
    found = probe(known, targets, classes=classes, decay=decay, like=like)(known)
    scaled = ((known - like.mean(0)) / like.std(0)).double().numpy()
    # scikit-learn's loss of two classes has one weight vector, w = w_1 − w_0, whose
    # penalty is half of that of (−w/2, w/2).
    strength = (1 if classes > 2 else 2) / (decay * len(known))
    peer = linear.LogisticRegression(C=strength, tol=1e-8, max_iter=2000)
    peer.fit(scaled, targets.numpy())
    wanted = torch.from_numpy(peer.predict_log_proba(scaled))
    # Both stop short of the optimum.
    assert_close(found.double().log_softmax(-1), wanted, rtol=0, atol=1e-3)
