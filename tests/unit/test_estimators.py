"""The estimators are what scikit-learn and its users expect, and they learn."""

import importlib
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from nacs.attentive import presets
from nacs.data.memory import all_to_train, arranged, ragged_series, times_first
from nacs.errors import UserError
from nacs.estimators import (
    AttentiveClassifier,
    AttentiveRegressor,
    NeuronalClassifier,
    NeuronalRegressor,
)

SMALL = replace(presets.tiny(), modules=8, outputs=1, layers=1, graph="complete")
QUICK = {"epochs": 8, "learning_rate": 5e-3}
LONGER = QUICK | {"epochs": 16}
CHECKED = {
    "attentive classifier": AttentiveClassifier(SMALL, **QUICK),
    "attentive regressor": AttentiveRegressor(SMALL, **LONGER),
    "neuronal classifier": NeuronalClassifier(**QUICK),
    "neuronal regressor": NeuronalRegressor(**LONGER),
}
"""Small and soon trained, for the checks fit a hundred times."""


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def checks(which, estimator):
    """scikit-learn's checks of one; those that ask for no accuracy train for less.

    Each architecture and each kind is checked by one of the two that are not slow.
    """
    often = which in {"attentive classifier", "neuronal regressor"}
    for found in estimator_checks_generator(estimator):
        model, check = found[0], found[1]
        name = check.func.__name__
        if not name.endswith("_train") and not isinstance(model, type):
            model = clone(model).set_params(epochs=2)
        marks = () if often else pytest.mark.slow
        yield pytest.param(model, check, id=name, marks=marks)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [each for name, kind in CHECKED.items() for each in checks(name, kind)],
)
def test_scikit_learn_finds_nothing_to_object_to(estimator, check):
    check(estimator)


def test_wine_is_told_apart():
    X, y = load_wine(return_X_y=True)  # columns of scales from 0.1 to 1,000
    names = np.array(["barolo", "grignolino", "barbera"])[y]
    X_train, X_test, y_train, y_test = train_test_split(
        X, names, random_state=0, stratify=names
    )
    model = AttentiveClassifier(random_state=0, epochs=30, learning_rate=5e-3)
    model.fit(X_train, y_train)
    assert model.score(X_test, y_test) >= 0.9  # the commonest is 40 %
    assert model.predict(X_test[:2]).dtype == names.dtype
    assert model.model_.config.graph == "learned"


def test_japanese_vowels_are_told_apart_as_aeon_hands_them_out():
    aeon = pytest.importorskip("nacs.data.aeon_sets").read_shipped("japanese-vowels")
    ours = [each[:, 1:] for each in aeon.inputs]  # (time, channels), without the time
    train = np.flatnonzero(aeon.parts == 0)[::2]
    test = np.flatnonzero(aeon.parts == 2)[::3]
    theirs = [each.T for each in ours]
    model = NeuronalClassifier(random_state=0, epochs=20, learning_rate=1e-2)
    model.fit([theirs[i] for i in train], aeon.targets[train])
    found = model.predict([theirs[i] for i in test])
    assert np.mean(found == aeon.targets[test]) >= 0.8  # of nine speakers
    other = clone(model)
    other.fit([ours[i] for i in train], aeon.targets[train])
    assert (other.predict([ours[i] for i in test]) == found).all()


def test_images_are_read_channels_last():
    digits = load_digits()
    images, y = (
        digits.images[:300, ..., None].astype(np.uint8) * 15,
        digits.target[:300],
    )
    two = np.isin(y, (0, 1))
    model = AttentiveClassifier(random_state=0, epochs=10).fit(images[two], y[two])
    assert model.model_.config.tokenizer.channels == 1
    assert model.model_.config.tokenizer.size == (8, 8)
    assert model.score(images[two], y[two]) > 0.9
    with pytest.raises(UserError, match=r"sample 0: expected the shape .*\(1, 8, 8\)"):
        model.predict(images[:2, :, :4])


def made_series(count=24, length=9, seed=0):
    """Two channels; the class is whether the second rises."""
    random = np.random.default_rng(seed)
    series = random.normal(size=(count, 2, length))
    y = np.arange(count) % 2
    series[:, 1] += np.linspace(-2, 2, length) * (2 * y[:, None] - 1)
    return series, y


def test_an_array_and_both_layouts_of_lists_are_the_same_series():
    series, y = made_series()
    first = NeuronalClassifier(random_state=0, epochs=4).fit(series, y)
    wanted = first.predict_proba(series)
    times_first_ = [each.T for each in series]
    model = NeuronalClassifier(random_state=0, epochs=4).fit(times_first_, y)
    np.testing.assert_allclose(model.predict_proba(times_first_), wanted, atol=1e-12)
    assert model.n_features_in_ == first.n_features_in_ == 2
    ragged = [each[:5] for each in times_first_[:3]] + times_first_[3:]
    one = model.predict_proba(ragged[:1])  # the same alone as beside longer ones
    together = model.predict_proba(ragged)[:1]
    np.testing.assert_allclose(one, together, rtol=0, atol=1e-12)
    assert next(model.model_.parameters()).dtype == torch.float64


def test_a_channel_may_be_the_time():
    series, y = made_series()
    times = np.cumsum(np.random.default_rng(1).exponential(size=(24, 1, 9)), axis=-1)
    timed = np.concatenate([series, times], axis=1)
    model = NeuronalClassifier(random_state=0, epochs=2, time_channel=-1).fit(timed, y)
    assert model.model_.config.tokenizer.features == 2
    stretched = timed.copy()
    stretched[:, -1] *= 3
    assert not np.allclose(model.predict_proba(timed), model.predict_proba(stretched))
    with pytest.raises(UserError, match="time runs backwards"):
        model.predict(timed[..., ::-1])
    with pytest.raises(UserError, match="`time_channel` must be one of"):
        model.set_params(time_channel=5).fit(timed, y)


def test_missing_values_are_missing_in_series_and_refused_in_tables():
    series, y = made_series()
    gaps = series.copy()
    gaps[::2, 0, 3:6] = np.nan
    for kind in (NeuronalClassifier, AttentiveClassifier):
        model = kind(random_state=0, epochs=2).fit(gaps, y)
        assert np.isfinite(model.predict_proba(gaps)).all()
    # The token is that of a value that is not there, not of a 0.
    model = NeuronalClassifier(random_state=0, epochs=2).fit(gaps, y)
    filled = np.nan_to_num(gaps, nan=np.nanmean(gaps[:, 0]))
    assert not np.allclose(model.predict_proba(gaps), model.predict_proba(filled))
    with pytest.raises(ValueError, match="NaN"):
        AttentiveClassifier(epochs=1).fit(gaps[:, 0], y)
    gaps[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        model.fit(gaps, y)


def test_they_work_inside_what_scikit_learn_composes():
    wine = load_wine()
    X, y = wine.data[::3], wine.target[::3]
    quick = AttentiveClassifier(SMALL, random_state=0, epochs=2)
    pipeline = make_pipeline(StandardScaler(), quick)
    assert len(cross_val_score(pipeline, X, y, cv=2)) == 2
    grid = GridSearchCV(pipeline, {"attentiveclassifier__epochs": [1, 2]}, cv=2)
    assert grid.fit(X, y).best_params_["attentiveclassifier__epochs"] in (1, 2)
    series, y = made_series()
    ragged = [each.T[: 4 + i % 3] for i, each in enumerate(series)]
    model = NeuronalClassifier(random_state=0, epochs=1)
    assert len(cross_val_score(model, ragged, y, cv=2)) == 2


def test_partial_fit_goes_on_where_it_stopped():
    series, y = made_series(60)
    model = NeuronalClassifier(random_state=0, learning_rate=1e-2)
    with pytest.raises(UserError, match="`classes`, all labels"):
        model.partial_fit(series, y)
    losses = []
    for _ in range(20):
        model.partial_fit(series, y, classes=[0, 1, 2])
        chance = model.predict_proba(series)[np.arange(60), y]
        losses.append(-np.log(chance).mean())
    assert model.classes_.tolist() == [0, 1, 2]
    assert losses[-1] < 0.5 * losses[0]
    assert model._state["progress"][0] == 20
    assert model._state["optimiser.0.step"] == 40  # two batches a call
    with pytest.raises(UserError, match="y has the label 3, expected one of"):
        model.partial_fit(series, y + 2)
    wrong = [each.T[:, :1] for each in series]
    with pytest.raises(ValueError, match="1 features, but NeuronalClassifier is expec"):
        model.partial_fit(wrong, y)


def test_partial_fit_after_fit_keeps_what_was_learned():
    series, y = made_series(60)
    model = NeuronalClassifier(random_state=0, learning_rate=1e-2, epochs=30)
    before = model.fit(series, y).score(series, y)
    again = pickle.loads(pickle.dumps(model)).partial_fit(series[:32], y[:32])
    assert before > 0.9
    assert again.score(series, y) > 0.9
    assert (
        model.partial_fit(series[:32], y[:32]).predict_proba(series[:5])
    ).tolist() == (again.predict_proba(series[:5]).tolist())


def test_numbers_of_any_scale_are_predicted():
    made = make_regression(120, 5, n_informative=2, random_state=0)
    X, y = made[0], made[1]
    fits = [
        NeuronalRegressor(random_state=0, epochs=30).fit(X, target)
        for target in (y, 1e9 + 1e-3 * y)
    ]
    assert fits[0].score(X, y) > 0.6  # 0 is the mean
    assert fits[1].score(X, 1e9 + 1e-3 * y) > 0.6  # in float32 all targets are equal


def test_the_seed_decides_and_nobody_else_notices():
    series, y = made_series()
    state = torch.random.get_rng_state()

    def answers(seed):
        model = NeuronalClassifier(random_state=seed, epochs=1).fit(series, y)
        return model.predict_proba(series)

    assert (answers(0) == answers(0)).all()
    assert not np.allclose(answers(0), answers(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_says_nothing(capfd):
    series, y = made_series()
    NeuronalClassifier(random_state=0, epochs=1).fit(series, y)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


def test_lists_are_read_as_what_they_are():
    assert ragged_series([[1, 2], [3, 4]]) is None
    assert ragged_series(np.zeros((2, 3, 4))) is None
    assert [each.shape for each in ragged_series([[1, 2], [3]])] == [(2, 1), (1, 1)]
    long, short = np.zeros((5, 3)), np.zeros((4, 3))
    assert times_first([long, short])
    assert not times_first([long.T, short.T])
    assert times_first([long, long])
    with pytest.raises(
        UserError, match=r"as many channels each.*\(5, 3\) and \(3, 4\)"
    ):
        times_first([long, short.T])
    with pytest.raises(UserError, match=r"series 1: expected \(time, channels\)"):
        ragged_series([long, np.zeros((1, 2, 3))])
    with pytest.raises(UserError, match=r"list of series, got shape \(1, 1, 1, 1, 1\)"):
        arranged(np.zeros((1,) * 5), columns_are_steps=False)


def test_every_column_of_a_table_has_its_own_scale():
    table = np.array([[1.0, 1e6, 7.0], [2.0, 3e6, 7.0], [3.0, 2e6, 7.0]])
    kind, inputs = arranged(table, columns_are_steps=False)
    split = all_to_train("t", kind, inputs, np.zeros(3)).train
    seen = split.batch(range(3)).inputs[:, 0, 0].double().numpy()
    wanted = (table - table.mean(0)) / np.array([*table.std(0)[:2], 1])
    np.testing.assert_allclose(seen, wanted, atol=1e-6)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "nacs.estimators")
    with pytest.raises(UserError, match=r"pip install 'nacs\[estimators\]'"):
        importlib.import_module("nacs.estimators")


def test_some_of_the_ragged_series_happen_to_be_of_one_length():
    draw = np.random.default_rng(0)
    series = [draw.normal(size=size) for size in (5, 7, 9, 6, 8, 5)]
    model = NeuronalClassifier(epochs=1, random_state=0).fit(series, [0, 1] * 3)
    together = model.predict_proba(series)
    np.testing.assert_allclose(model.predict_proba(series[:1]), together[:1], rtol=1e-9)
    model.partial_fit([series[0], series[5]], [0, 1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"time_channel": "a"}, "`time_channel` must be the number of a channel"),
        ({"time_channel": True}, "`time_channel` must be .* got True"),
        ({"epochs": 1.5}, "`epochs` must be a whole number, got 1.5"),
        ({"preset": None}, "`preset` must be a name or sizes, got None"),
    ],
)
def test_settings_that_are_none(wrong, message):
    with pytest.raises(UserError, match=message):
        NeuronalClassifier(**wrong).fit(np.zeros((4, 2, 5)), [0, 1, 0, 1])
