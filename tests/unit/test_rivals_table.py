"""The tables of rivals: fair data, fair choices."""

from dataclasses import replace

import numpy as np
import pytest

import rivals_table
import rivals_tasks
from nacs.data.splits import Samples, assemble
from nacs.errors import UserError
from rivals_tasks import TASKS, Task


def series(samples=30, steps=10, name="made"):
    random = np.random.default_rng(0)
    inputs = random.random((samples, steps, 3))
    inputs[:, :, 0] = 5 + np.arange(steps)
    labels = np.arange(samples) % 2
    ids = np.array([f"{name} {row}" for row in range(samples)])
    return assemble(
        Samples(
            name=name,
            kind="series",
            inputs=inputs,
            targets=labels,
            ids=ids,
            classes=("a", "b"),
        ),
        seed=0,
    )


def test_windows_keep_order_labels_and_splits():
    before = series()
    after = rivals_tasks._windows(before.test, 4)
    assert len(after) == 2 * len(before.test)
    np.testing.assert_array_equal(after.targets, before.test.targets.repeat(2))
    np.testing.assert_array_equal(
        after.inputs[1][:, 1:], before.test.inputs[0][4:8, 1:]
    )
    assert all(window[:, 0].tolist() == [0, 1, 2, 3] for window in after.inputs)
    assert before.test.inputs[0][0, 0] == 5  # the original is not written to


def test_times_alone_see_no_value():
    bare = rivals_tasks.times_alone(series())
    batch = bare.test.batch(range(3))
    assert batch.inputs.shape == (3, 10, 1)
    full = series().test.batch(range(3))
    np.testing.assert_array_equal(batch.inputs[..., 0], full.inputs[..., 0])


def test_another_set_is_the_whole_test_split():
    first, second = series(), series(40, name="other")
    joined = rivals_tasks._tested_on(first, second)
    assert len(joined.test) == 40
    assert all(name.startswith("other") for name in joined.test.ids)
    assert joined.test.mean is first.train.mean
    with pytest.raises(UserError, match="columns"):
        rivals_tasks._tested_on(first, replace(second, columns=("x", "y")))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cmapss_FD001\.npz: no such file; say --data"):
        rivals_tasks.load("engines", tmp_path, 0)


def test_the_rate_is_that_of_the_validation_split(tmp_path, monkeypatch):
    task = Task(rates=(0.1, 0.2, 0.3))
    runs = rivals_table.Runs("neuronal", task, tmp_path, None)
    told = {0.1: (1.0, 0.1), 0.2: (0.5, 0.5), 0.3: (0.7, 0.99)}

    def train(dataset, seed, rate):
        return {"best_val_loss": told[rate][0], "test_accuracy": told[rate][1]}

    monkeypatch.setattr(runs, "train", train)
    runs.choose(None)
    assert runs.rate == 0.2


def test_differences_are_paired_by_seed():
    rows = {
        "neuronal": {"test_loss": rivals_table.spread([1.0, 2.0])},
        "gru": {"test_loss": rivals_table.spread([0.5, 2.5])},
    }
    rivals_table.compare(rows, "test_loss")
    assert rows["gru"]["neuronal minus this"]["seeds"] == [0.5, -0.5]
    assert rows["neuronal"]["neuronal minus this"]["mean"] == 0


def test_the_variant_is_chosen_by_validation_alone():
    rows = {
        name: {
            "test_accuracy": rivals_table.spread(accuracy),
            "val_loss": rivals_table.spread(loss),
        }
        for name, accuracy, loss in zip(
            [*rivals_table.VARIANTS, "gru"],
            ([0.9, 0.9], [0.5, 0.7], [0.8, 0.8], [0.6, 0.6]),
            ([0.3, 0.3], [0.1, 0.3], [0.0, 0.6], [0.0, 0.0]),
            strict=True,
        )
    }
    assert rivals_table.chosen(rows) == rivals_table.VARIANTS[1]
    rivals_table.compare(rows, "test_accuracy")
    assert rows["gru"]["chosen minus this"]["mean"] == pytest.approx(0)
    assert rows["neuronal"]["chosen minus this"]["mean"] == pytest.approx(-0.3)
    del rows[rivals_table.VARIANTS[2]]
    assert rivals_table.chosen(rows) is None


def test_all_models_of_a_table_have_equal_parameters():
    task, dataset = (
        TASKS["japanese-vowels"],
        rivals_tasks.load("japanese-vowels", None, 0),
    )
    task = replace(task, models=("neuronal", "top-k softmax", "gru", "mtan", "cfc"))
    wanted = rivals_table.common(task, dataset)
    for model in task.models:
        config = rivals_table.matched(model, task, dataset, wanted)
        got = rivals_table.count_parameters(rivals_table.build(model, config))
        assert got == pytest.approx(wanted, rel=0.01)


def test_the_table_shows_standard_errors_of_paired_differences():
    rows = {
        name: {
            "test_accuracy": rivals_table.spread(values),
            "dropped_30%": rivals_table.spread([0.5, 0.5]),
            "parameters": 1234,
        }
        for name, values in (
            ("neuronal", [0.9, 0.8]),
            ("neuronal, paper", [0.7, 0.7]),
            ("gru", [0.5, 0.6]),
        )
    }
    rivals_table.compare(rows, "test_accuracy")
    last = rivals_table.markdown({"models": rows}).splitlines()[-1]
    # Differences 0.4 and 0.2: a deviation of 0.141, an error of 0.1.
    assert last == (
        "| gru | 0.550 ± 0.071 | +0.300 ± 0.100 | +0.150 ± 0.050 | 0.500 | 1,234 |"
    )
