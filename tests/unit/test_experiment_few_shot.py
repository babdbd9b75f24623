"""Few samples: models adapt to them, episodes are fair, figures follow from both."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from nacs import data
from nacs.attentive import AttentiveCircuit, presets
from nacs.baselines.transformer import Transformer, TransformerConfig
from nacs.errors import UserError
from nacs.evaluation import evaluate, predict
from nacs.experiments.adapt import features, last_layer, probe, tuned, with_last
from nacs.experiments.episodes import Bench, divided, episode, pooled, restricted
from nacs.experiments.few_shot import EXPERIMENT, arms_of, plan_of
from nacs.experiments.images import PAPER_TRAINING
from nacs.experiments.workshop import Workshop
from nacs.models import count_parameters, lookup
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


@given(st.integers(2, 40), st.data())
def test_classes_are_divided_into_groups_that_share_none(classes, draw):
    sizes = draw.draw(st.lists(st.integers(1, 10), min_size=1, max_size=4))
    seed = draw.draw(st.integers(0, 99))
    if sum(sizes) > classes:
        with pytest.raises(UserError, match=f"at least {sum(sizes)} classes"):
            divided(classes, sizes, seed=seed)
        return
    groups = divided(classes, sizes, seed=seed)
    assert [len(group) for group in groups] == sizes
    drawn = np.concatenate(groups)
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.max() < classes
    for group, again in zip(groups, divided(classes, sizes, seed=seed), strict=True):
        assert (group == again).all()


def test_another_seed_divides_otherwise():
    first, other = (divided(40, (20,), seed=seed)[0] for seed in (0, 1))
    assert (first != other).any()


def test_some_classes_alone_keep_their_samples_and_names(digits):
    chosen = np.array([7, 2, 5])
    found = restricted(digits, chosen)
    assert found.classes == ("7", "2", "5")
    assert found.outputs == 3
    for part in ("train", "val", "test"):
        whole, few = getattr(digits, part), getattr(found, part)
        kept = np.isin(whole.targets, chosen)
        assert (few.ids == whole.ids[kept]).all()
        assert (few.inputs == whole.inputs[kept]).all()
        assert (chosen[few.targets] == whole.targets[kept]).all()


def test_a_pool_has_every_sample_once(digits):
    found = pooled(digits)
    parts = (digits.train, digits.val, digits.test)
    assert len(found) == sum(map(len, parts))
    assert len(set(found.ids)) == len(found)
    assert (found.inputs[-1] == digits.test.inputs[-1]).all()
    assert_close(found.batch([0]).inputs, digits.train.batch([0]).inputs)


counts = st.integers(1, 5)


@given(ways=counts, shots=counts, queries=counts, seed=counts, index=counts)
def test_episodes_ask_about_other_samples_of_the_classes_learnt(
    ways, shots, queries, seed, index
):
    targets = np.random.default_rng(0).permutation(np.arange(120) % 6)
    sizes = {"ways": ways, "shots": shots, "queries": queries}
    support, asked = episode(targets, **sizes, seed=seed, index=index)
    assert support.shape == (ways, shots)
    assert asked.shape == (ways, queries)
    both = np.concatenate([support, asked], 1)
    assert len(np.unique(both)) == both.size
    rows = targets[both]
    assert (rows == rows[:, :1]).all()
    assert len(np.unique(rows[:, 0])) == ways
    # One of more ways and shots asks the same of the same classes, and learns more.
    larger = {"ways": 6, "shots": 7, "queries": queries}
    more, same = episode(targets, **larger, seed=seed, index=index)
    assert (more[:ways, :shots] == support).all()
    assert (same[:ways] == asked).all()


def test_episodes_differ_by_seed_and_index():
    targets = np.arange(600) % 6
    sizes = {"ways": 3, "shots": 4, "queries": 5}
    drawn = [
        episode(targets, **sizes, seed=seed, index=index)[0]
        for seed in range(3)
        for index in range(3)
    ]
    assert len({each.tobytes() for each in drawn}) == 9
    assert len({*targets[np.concatenate(drawn).ravel()]}) == 6


@pytest.mark.parametrize(("ways", "shots"), [(4, 1), (2, 9)])
def test_an_episode_needs_classes_and_samples(ways, shots):
    targets = np.arange(30) % 3
    with pytest.raises(UserError, match=r"3 of 10 or more"):
        episode(targets, ways=ways, shots=shots, queries=2, seed=0, index=0)


@pytest.mark.parametrize(("how", "setting"), [("probe", 0.1), ("tuned", 1e-2)])
def test_a_bench_tells_classes_that_are_easily_told(digits, model, how, setting):
    """Black and white pictures: all queries are answered, however few the shots."""
    targets = np.arange(40) % 2
    inputs = np.zeros((40, 1, 8, 8), np.float32) + 16 * targets[:, None, None, None]
    split = replace(digits.train, inputs=inputs, targets=targets, ids=targets)
    like = features(model, digits.train.take(range(50)))
    bench = Bench(
        model=model, split=split, like=like, seed=0, queries=5, steps=10, batch=8
    )
    assert bench.accuracies(how, 2, 2, 3, setting) == [1.0, 1.0, 1.0]
    nothing = replace(split, inputs=np.zeros_like(inputs))
    bench = replace(bench, split=nothing)
    assert bench.accuracies(how, 2, 2, 3, setting) == [0.5, 0.5, 0.5]


def coloured(side):
    """A data set as Tiny-ImageNet, of two samples a split."""
    pixels = np.zeros((2, 3, side, side), np.uint8)
    split = replace(data.load("digits").train.take([0, 1]), inputs=pixels)
    names = tuple(map(str, range(120)))
    return replace(
        data.load("digits"), train=split, val=split, test=split, classes=names
    )


@pytest.mark.parametrize(("scale", "side"), [("here", 32), ("paper", 64)])
def test_the_larger_scales_build_and_their_figures_can_be_drawn(tmp_path, scale, side):
    work = Workshop(tmp_path, scale)
    plan = plan_of(work)
    assert sum(plan.groups) == 200
    assert plan.groups[2] >= max(plan.many_ways)
    assert plan.groups[1] >= plan.ways
    assert {(8, 1), (8, 2), (8, 4), (8, 8), (8, 16), (2, 8), (64, 8)} <= {*plan.points}
    with torch.device("meta"):
        arms = arms_of(plan, coloured(side))
        built = [lookup(arm.model).build(arm.sizes) for arm in arms]
        answers = [model(torch.zeros(2, 3, side, side)) for model in built]
    assert [tuple(answer.shape) for answer in answers] == [(2, 120)] * 3
    circuit, rival, wider = map(count_parameters, built)
    assert rival < circuit
    assert wider == pytest.approx(circuit, rel=0.01)


def test_the_paper_scale_has_the_recipe_of_the_paper(tmp_path):
    plan = plan_of(Workshop(tmp_path, "paper"))
    assert plan.training == PAPER_TRAINING
    assert plan.like == presets.tiny_imagenet()


def test_the_scale_here_says_which_file_it_needs(tmp_path):
    with pytest.raises(UserError, match=r"tiny_imagenet200_sub\.npz.*--data"):
        EXPERIMENT.run(Workshop(tmp_path, "here", tmp_path))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The figures of the smallest scale, as JSON gives them back."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    made = EXPERIMENT.run(Workshop(tmp_path_factory.mktemp("few-shot")))
    torch.set_default_dtype(before)
    return json.loads(json.dumps(made))


def test_every_point_has_every_arm_and_its_differences(found):
    plan = plan_of(Workshop("", "smoke"))
    names = ["NAC, scale-free", "Perceiver IO", "Perceiver IO, wider"]
    assert len(found["points"]) == 2 * len(plan.points)
    for row in found["points"]:
        assert list(row["arms"]) == names
        assert row["episodes"] == len(plan.seeds) * plan.count(row["how"], row["shots"])
        for arm in row["arms"].values():
            assert arm["low"] <= arm["mean"] <= arm["high"]
            assert 0 <= arm["mean"] <= 1
        for rival, off in row["against"].items():
            ours, theirs = row["arms"][names[0]], row["arms"][rival]
            for over in ("episodes", "seeds"):
                wanted = ours["mean"] - theirs["mean"]
                assert off[over]["mean"] == pytest.approx(wanted)


def test_figures_are_told_and_drawn_from_json_alone(found, tmp_path):
    said = EXPERIMENT.tell(found)
    tables = [line for line in said.splitlines() if line.startswith("| ")]
    plan = plan_of(Workshop("", "smoke"))
    rows = 2 * (len(plan.many_shots) + len(plan.many_ways))
    assert len(tables) == 3 + 3 + rows
    row = found["points"][-1]
    lift = row["ways"] * row["arms"]["Perceiver IO"]["mean"]
    assert f"| {lift:.2f} ± " in said
    EXPERIMENT.draw(found, tmp_path / "figure-4.png")
    assert (tmp_path / "figure-4.png").stat().st_size > 10_000
