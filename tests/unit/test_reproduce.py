"""Every experiment, from nothing to its page, at the smallest scale."""

import json

import pytest
import torch

from nacs.cli import main
from nacs.experiments import NAMES, drops, workshop

pytest.importorskip("corrupt_tta", reason="the extra `experiments` is not installed")


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def each_rival_is_the_one_it_names(rows):
    """Of table 1's differences."""
    for row in rows.values():
        for rival, scores in row["against"].items():
            for score, found in scores.items():
                apart = row[score]["mean"] - rows[rival][score]["mean"]
                assert found["mean"] == pytest.approx(apart)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_ends_in_figures_a_picture_and_a_page(
    name, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # Figure 5 takes longer than any two others.
    monkeypatch.setattr(drops, "SHARES", (0.0, 0.8, 0.95))
    command = ["reproduce", name, "--scale", "smoke"]
    assert main(command) == 0
    results = tmp_path / "runs/reproduce/smoke/results"
    told = json.loads((results / f"{name}.json").read_text())
    assert told["command"] == f"nacs reproduce {name} --scale smoke"
    assert told["found"]
    if name == "table-1":
        each_rival_is_the_one_it_names(told["found"]["rows"])
    page = results.with_suffix(".md").read_text()
    assert f"`nacs reproduce {name} --scale smoke`" in page
    for picture in results.glob("*.png"):
        assert f"({results.name}/{picture.name})" in page
    first = capsys.readouterr().out

    def none(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(workshop, "train", none)
    assert main(command) == 0  # all is kept: nothing is trained twice
    assert capsys.readouterr().out == first
    assert json.loads((results / f"{name}.json").read_text())["found"] == told["found"]


def test_a_wrong_name_says_which_there_are(capsys):
    assert main(["reproduce", "table-9"]) == 2
    said = capsys.readouterr().err
    assert "table-9" in said
    assert "table-1, figure-4" in said


def test_a_folder_that_is_not_there_is_named(capsys):
    assert main(["reproduce", "table-1", "--data", "/nowhere"]) == 2
    assert "/nowhere" in capsys.readouterr().err
