"""Table 2 compares equals, turns what it says it turns, and tells it from JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nacs.data.base import Dataset, Split
from nacs.errors import UserError
from nacs.experiments import find, points, workshop
from nacs.experiments.images import PERCEIVER
from nacs.experiments.point_studies import CIRCUIT, arms, studies
from nacs.experiments.workshop import Workshop
from nacs.models import count_parameters, lookup


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def clouds(classes, features=0):
    """A data set of one object a class."""
    places = np.zeros((classes, 4, 3 + features), np.float32)
    names = tuple(map(str, range(classes)))
    split = Split(places, np.arange(classes), np.array(names))
    parts = {"train": split, "val": split, "test": split}
    return Dataset(name="here", kind="points", classes=names, **parts)


@pytest.mark.parametrize("scale", ["smoke", "here", "paper"])
def test_rivals_are_as_large_as_the_circuit(scale, tmp_path):
    (tmp_path / "dales_objects_400.npz").touch()
    (tmp_path / "ModelNet40").mkdir()
    for study in studies(Workshop(tmp_path, scale, tmp_path)):
        with torch.device("meta"):
            found = arms(study.like, clouds(40, features=1))
            sizes = {
                a.name: count_parameters(lookup(a.model).build(a.sizes)) for a in found
            }
        wanted = sizes.pop(CIRCUIT)
        assert sizes.pop(PERCEIVER) < wanted
        for name, size in sizes.items():
            # half a step of the hidden width, in the smallest of the models
            assert size == pytest.approx(wanted, rel=0.01), name
        assert all(arm.sizes.tokenizer.features == 1 for arm in found)
        assert all(arm.sizes.classes == 40 for arm in found)
        assert all(angles[0] == 0 for angles in study.angles.values())


def test_the_papers_recipe_is_table_4s(tmp_path):
    (study,) = studies(Workshop(tmp_path, "paper", tmp_path))
    like, training = study.like, study.training
    assert (like.modules, like.layers, like.width, like.prior) == (
        320,
        8,
        384,
        "scale-free",
    )
    assert (training.epochs, training.batch, training.warmup_epochs) == (400, 1024, 25)
    assert not (training.mixup)
    assert not (training.randaugment)
    assert not (training.label_smoothing)
    with pytest.raises(UserError, match="ModelNet40: no such folder"):
        study.read(0)


def test_meshes_are_read_from_the_published_folder(tmp_path):
    corners = "0 0 0\n4 0 0\n0 4 0\n0 0 4\n"
    mesh = "OFF\n4 4 0\n" + corners + "3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
    for kind in ("bed", "lamp"):
        for part, count in (("train", 6), ("test", 2)):
            folder = tmp_path / "ModelNet40" / kind / part
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{kind}_{number}.off").write_text(mesh)
    (study,) = studies(Workshop(tmp_path, "paper", tmp_path))
    dataset = study.read(0)
    assert len(dataset.test) == 4
    assert dataset.classes == ("bed", "lamp")
    for each in dataset.train.inputs:
        assert np.abs(each.mean(0)).max() < 1e-5
        assert np.linalg.norm(each, axis=1).max() == pytest.approx(1, abs=1e-5)


def test_the_file_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"dales_objects_400.npz: no such file"):
        studies(Workshop(tmp_path, "here", tmp_path))


class Sides(nn.Module):
    """Says 1 where most of the points have a positive x."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs, *_):
        right = self.scale * (inputs[..., 0] > 0).float().mean(1)
        return torch.stack([1 - right, right], -1)


def test_accuracy_is_measured_turned_and_thinned():
    places = np.random.default_rng(0).normal(size=(6, 20, 3))
    targets = np.arange(6) % 2
    places[..., 0] = np.abs(places[..., 0]) * (2 * targets[:, None] - 1)
    split = Split(places, targets, targets.astype(str))
    act = points._measures(split, {"vertical": (0, 180)}, 0)
    found = act(Sides())
    assert found["turned"] == {"vertical": [1.0, 0.0]}
    assert found["fewer"] == [1.0] * len(points.SHARES)
    assert found["density"] is None


def test_a_row_leaves_the_untouched_objects_out_of_its_means():
    one = {"turned": {"any": [1.0, 0.5, 0.1], "vertical": [1.0, 0.9]}}
    more = {"fewer": [1.0, 0.6, 0.2], "density": None}
    row = points._row([one | more])
    assert row["accuracy"]["mean"] == 1.0
    assert row["turned"]["mean"] == pytest.approx(0.3)
    assert row["fewer"]["mean"] == pytest.approx(0.4)
    assert [each["mean"] for each in row["by angle"]["vertical"]] == [1.0, 0.9]


@pytest.fixture
def small(monkeypatch):
    """The smoke scale with its first data set alone and few angles."""

    def first(work):
        return [replace(studies(work)[0], angles={"any": (0, 90), "vertical": (0, 45)})]

    monkeypatch.setattr(points, "studies", first)


@pytest.mark.usefixtures("small")
def test_figures_are_kept_told_and_drawn(tmp_path, monkeypatch):
    experiment = find("table-2")
    found = experiment.run(Workshop(tmp_path))
    found = json.loads(json.dumps(found))
    study = found["studies"]["solids"]
    assert list(study["rows"])[:2] == [CIRCUIT, PERCEIVER]
    for row in study["rows"].values():
        assert row["by angle"]["any"][0] == row["accuracy"] == row["by share"][0]
        assert len(row["accuracy"]["seeds"]) == 2
    ours, theirs = (study["rows"][arm]["turned"] for arm in (CIRCUIT, PERCEIVER))
    ahead = study["rows"][PERCEIVER]["ahead"]["turned"]
    assert ahead["mean"] == pytest.approx(ours["mean"] - theirs["mean"])
    text = experiment.tell(found)
    accuracy = study["rows"][CIRCUIT]["accuracy"]
    assert f"{100 * accuracy['mean']:.1f} ± {100 * accuracy['deviation']:.1f}" in text
    assert "| 90° about any axis |" in text
    assert "| 70% left out |" in text
    assert "| 83.0 |" in text
    experiment.draw(found, tmp_path / "pictures" / "table-2.png")
    assert (tmp_path / "pictures" / "table-2.png").stat().st_size > 10_000

    def none(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(workshop, "train", none)
    assert json.loads(json.dumps(experiment.run(Workshop(tmp_path)))) == found


def test_the_scanned_objects_have_splits_of_their_own(shared):
    chosen = studies(Workshop(shared, "here", shared / "data"))
    first, second = (chosen[0].read(seed) for seed in (0, 1))
    assert first.classes == ("building", "car", "fence", "pole", "tree")
    assert not set(first.train.ids) & set(first.test.ids)
    assert set(first.test.ids) != set(second.test.ids)
    assert len(first.train) == 8 * len(set(first.train.ids))
    assert first.shape == (128, 3)
