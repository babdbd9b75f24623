"""Machines that wear out: no age among the inputs, and machines held out whole."""

import numpy as np
import pytest
import torch

from nacs.data import load
from nacs.data.npz import read_npz
from nacs.errors import UserError
from nacs.evaluation import evaluate


def engines(path, lives=(40, 33), tests=(50, 12)):
    def rows(lengths):
        return np.concatenate(
            [
                np.column_stack(
                    [
                        np.full(n, i + 1),
                        np.arange(1, n + 1),
                        1000 * i + np.ones((n, 24)),
                    ]
                )
                for i, n in enumerate(lengths)
            ]
        )

    np.savez(path, train=rows(lives), test=rows(tests), rul_test=np.array([7, 200]))
    return path


def test_engines(tmp_path):
    samples = read_npz(engines(tmp_path / "x.npz"))
    assert samples.targets.tolist() == [0, 5, 10, 0, 7, 125]
    assert samples.parts.tolist() == [0, 0, 0, 0, 2, 2]
    assert [len(series) for series in samples.inputs] == [30] * 5 + [12]
    assert samples.groups.tolist()[:4] == ["train engine 1"] * 3 + ["train engine 2"]
    for series in samples.inputs:
        assert series.shape[1] == 1 + 24
        assert np.array_equal(series[:, 0], np.arange(len(series)))
    assert set(np.unique(np.concatenate(samples.inputs)[:, 1:])) == {1, 1001}


def bearings(path, **more):
    columns = np.array(["h_std", "Time", "v_std", "RUL"])
    made = {}
    for i, count in enumerate((100, 90, 61, 95, 80)):
        table = np.zeros((count, 4))
        table[:, 0], table[:, 2] = i, np.arange(count)
        table[:, 1], table[:, 3] = 1e9, 1e9
        made |= {f"b{i}": table, f"b{i}__cols": columns}
    np.savez(path, **(made | more))
    return path


def test_bearings(tmp_path):
    samples = read_npz(bearings(tmp_path / "x.npz"))
    assert samples.columns == ("h_std", "v_std")
    assert np.concatenate(samples.inputs).max() < 1e9
    assert samples.targets[0] == 0
    assert samples.targets[1] == pytest.approx(60 / 99)
    assert samples.inputs[1][-1, 2] == 39
    dataset = load(tmp_path / "x.npz")
    parts = (dataset.train, dataset.val, dataset.test)
    names = [{name.split(",")[0] for name in part.ids} for part in parts]
    assert sum(map(len, names)) == 5
    assert len(set.union(*names)) == 5


def test_what_is_no_such_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, train=np.ones((9, 3)), test=np.ones((9, 3)), rul_test=np.ones(1))
    with pytest.raises(UserError, match="expected train of 26 columns"):
        read_npz(path)
    few = {"b0": np.ones((5, 4))}
    with pytest.raises(UserError, match="b0: expected 30 rows, got 5"):
        read_npz(bearings(path, **few))
    other = {"b0__cols": np.array(["a", "b", "c", "d"])}
    with pytest.raises(UserError, match="columns that all bearings have, got none"):
        read_npz(bearings(path, **other))


class NeverFails(torch.nn.Module):
    """Predicts 125 cycles; `scale` stands for a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.answer = 0.0

    def forward(self, inputs, keep, context, context_keep):
        return torch.full((len(inputs), 1), self.answer)


def test_the_real_files(shared):
    dataset = load(shared / "data" / "cmapss_FD001.npz")
    assert len(dataset.test) == 100
    assert dataset.test.targets.max() == 125
    model, test = NeverFails(), dataset.test
    assert test.target_mean is not None
    assert test.target_deviation is not None
    model.answer = ((125 - test.target_mean) / test.target_deviation).item()
    figures = evaluate(model, dataset.test)
    rmse = np.sqrt(np.square(125 - dataset.test.targets).mean())
    assert figures["rmse"] == pytest.approx(rmse, rel=1e-4)
    wanted = (np.exp((125 - dataset.test.targets) / 10) - 1).sum()
    assert figures["asymmetric_score"] == pytest.approx(wanted, rel=1e-3)
    dataset = load(shared / "data" / "bearing_rul_features.npz")
    assert dataset.shape == (30, 15)
    assert not set(dataset.columns) & {"Time", "Degradation", "RUL"}
