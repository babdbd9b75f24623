"""The command line and data that are not as they were, or not as they seem."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nacs.cli import main
from nacs.data import load
from nacs.data.again import other_data, own_data
from nacs.data.base import DataFacts
from nacs.errors import UserError
from nacs.models import config_from_json
from nacs.tasks import tokenizer_for
from nacs.tokenizers import TokenizerConfig
from nacs.view.sample import picture


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def told(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return err if code else out


def train(source, out, *more):
    few = ("--training.epochs", "1", "--preset", "tiny")
    assert main(["train", str(source), "--out", str(out), *few, *map(str, more)]) == 0
    return out


def pictures(folder, classes, count=12, seed=0):
    draw = np.random.default_rng(seed)
    for place in classes:
        (folder / place).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{index}.png")
    return folder


def series(path, *, shift=0.0, names=("a", "b"), answer="target"):
    draw, rows = np.random.default_rng(0), [f"id,time,{','.join(names)},{answer}"]
    for person in range(24):
        level = float(draw.normal())
        for step in range(5):
            values = (level + shift, -level + 2 * shift)
            end = f"{level + shift:.4f}" if answer == "target" else f"c{person % 2}"
            rows.append(f"p{person},{step},{values[0]:.4f},{values[1]:.4f},{end}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_other_data_are_scaled_as_those_of_the_training(tmp_path, capsys):
    run = train(series(tmp_path / "one.csv"), tmp_path / "run")
    moved = series(tmp_path / "two.csv", shift=1000)
    figures = json.loads(told(capsys, "evaluate", run, "--data", moved, "--json"))
    test = load(moved).test
    rows = told(capsys, "predict", run, moved).splitlines()[1:]
    answers = dict(row.rsplit(",", 1) for row in rows)
    off = [
        float(answers[f"{moved}:{name}"]) - target
        for name, target in zip(test.ids, test.targets, strict=True)
    ]
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(off))), rel=1e-3)
    assert figures["rmse"] > 500


def test_classes_of_other_data_are_known_by_their_names(tmp_path, capsys):
    run = train(pictures(tmp_path / "both", ("cats", "dogs")), tmp_path / "run")
    facts = json.loads((run / "config.json").read_text())["data"]
    facts = config_from_json(DataFacts, facts)
    swapped = tmp_path / "swapped.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(40) % 2
    np.savez(swapped, x=pixels, y=labels, classes=np.array(["dogs", "cats"]))
    plain, under = load(swapped), other_data(str(swapped), facts)
    assert under.classes == ("cats", "dogs")
    assert (under.test.targets == 1 - plain.test.targets).all()
    strange = pictures(tmp_path / "strange", ("dogs", "eels"))
    said = told(capsys, "evaluate", run, "--data", strange, code=2)
    assert "expected the classes cats, dogs as in training, got eels" in said


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"names": ("b", "a")}, "expected the columns a, b as in training, got b, a"),
        ({"answer": "label"}, "expected numbers as in training, got classes"),
        ({"kind": "image"}, "expected data of kind series, as in training, got image"),
    ],
)
def test_other_data_that_do_not_fit(tmp_path, capsys, other, message):
    run = train(series(tmp_path / "one.csv"), tmp_path / "run")
    if "kind" in other:
        path = pictures(tmp_path / "images", ("cats", "dogs"))
    else:
        path = series(tmp_path / "two.csv", **other)
    assert message in told(capsys, "evaluate", run, "--data", path, code=2)


def test_data_that_changed_are_not_taken_for_those_of_the_training(tmp_path, capsys):
    source = pictures(tmp_path / "grow", ("cats", "dogs"))
    run = train(source, tmp_path / "run")
    told(capsys, "evaluate", run)
    pictures(source, ("eels",), seed=1)
    for verb, *more in (("evaluate",), ("prune", "--keep", "0.5")):
        said = told(capsys, verb, run, *more, code=2)
        assert "no longer those of the training" in said
    assert not (tmp_path / "run-pruned").exists()


def test_a_mean_that_another_processor_rounds_otherwise_is_the_same():
    facts = load("digits").facts
    near = replace(facts, mean=(np.asarray(facts.mean) * (1 + 1e-7)).tolist())
    assert len(own_data(near).test) == 359
    with pytest.raises(UserError, match="expected the mean"):
        own_data(replace(facts, mean=(np.asarray(facts.mean) + 0.1).tolist()))


def test_pruning_twice_keeps_a_share_of_what_is_left(tmp_path, capsys):
    source = pictures(tmp_path / "both", ("cats", "dogs"))
    run = train(source, tmp_path / "run", "--sizes.generator", "conditional")
    once, twice = tmp_path / "once", tmp_path / "twice"
    told(capsys, "prune", run, "--keep", "0.25", "--out", once)
    found = json.loads(
        told(capsys, "prune", once, "--keep", "0.5", "--out", twice, "--json")
    )
    assert found["modules"] == 2
    told(capsys, "export", twice, "--out", tmp_path / "twice.pt2")


def test_a_class_called_id(tmp_path, capsys, monkeypatch):
    for place, text in (("id", "apa kabar"), ("en", "how are you")):
        (tmp_path / "texts" / place).mkdir(parents=True)
        for index in range(12):
            (tmp_path / "texts" / place / f"{index}.txt").write_text(f"{text} {index}")
    run = train(tmp_path / "texts", tmp_path / "run")
    head, row = told(capsys, "predict", run, tmp_path / "texts/en/0.txt").splitlines()
    assert head == "id,en,id"
    assert row.startswith(str(tmp_path / "texts/en/0.txt"))
    asked = ("predict", run, tmp_path / "texts", "--format", "json")
    assert "a class is called id" in told(capsys, *asked, code=2)
    monkeypatch.chdir(run)
    told(capsys, "export", ".")
    assert (tmp_path / "run.pt2").exists()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("id,time,hr,hr,label", "two of the name hr"),
        (",id,time,hr,label", "expected a column a name, got one without"),
    ],
)
def test_columns_have_names_of_their_own(tmp_path, capsys, head, message):
    path = tmp_path / "series.csv"
    path.write_text(f"{head}\n" + "a,0,1,2,x\n" * 3)
    assert message in told(capsys, "train", path, code=2)


def test_blanks_around_the_names_of_columns(tmp_path):
    path = series(tmp_path / "one.csv")
    text = path.read_text()
    path.write_text(text.replace("id,time,a,b,target", "id, time, a ,b, target"))
    assert load(path).columns == ("a", "b")


@pytest.mark.parametrize("size", [16, -3, 60_000])
def test_a_size_is_for_files_of_pictures(tmp_path, capsys, size):
    said = told(capsys, "train", "digits", "--size", size, code=2)
    assert "leave it out" in said or "lies in [1, 4096]" in said
    path = series(tmp_path / "one.csv")
    assert "size" in told(capsys, "train", path, "--size", size, code=2)
    images = pictures(tmp_path / "images", ("cats", "dogs"))
    assert load(images, size=16).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes.classes", 1), "--sizes.classes must be 10"),
        (("--sizes.classes", 12), "--sizes.classes must be 10"),
        (("--sizes.tokenizer.channels", 3), "--sizes.tokenizer.channels must be 1"),
        (("--training.seed", 2**64), "`seed` must lie in"),
        (("--training.min-learning-rate", "-1"), "`min_learning_rate` must be 0"),
        (("--training.warmup-epochs", "nan"), "`warmup_epochs` must be 0 or more"),
        (("--training.graph-weight", "nan"), "`graph_weight` must be 0 or more"),
    ],
)
def test_options_that_do_not_go_with_the_data(capsys, tmp_path, arguments, message):
    out = tmp_path / "run"
    assert message in told(capsys, "train", "digits", "--out", out, *arguments, code=2)
    assert not out.exists()


def test_what_changes_images_is_not_for_series(tmp_path, capsys):
    path = series(tmp_path / "one.csv")
    for name in ("randaugment", "mixup", "label-smoothing"):
        said = told(capsys, "train", path, f"--training.{name}", "1", code=2)
        assert f"--training.{name}" in said or f"`{name.replace('-', '_')}`" in said


def test_help_is_of_the_model_that_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["train", "digits", "--model", "neuronal", "--help"])
    shown = capsys.readouterr().out
    assert "--sizes.attention.solver" in shown
    assert "--sizes.modules" not in shown
    said = told(capsys, "train", "--training.epochs", "1", "digits", code=2)
    assert "give the data before the options" in said


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.full((40, 5), -1)}, "whole numbers from 0"),
        ({"x": np.full((40, 5), 300), "kind": "bytes"}, "whole numbers from 0 to 255"),
        ({"x": np.zeros((40, 5)), "kind": "tokens"}, "of float64"),
        ({"x": np.zeros((40, 5, 2)), "kind": "points"}, r"got shape \(40, 5, 2\)"),
        ({"x": np.zeros((40, 5, 4)), "kind": "frames"}, "got frames"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, arrays, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, y=np.arange(40) % 2, **arrays)
    with pytest.raises(UserError, match=message):
        load(path)


def test_a_symbol_that_only_the_test_split_has(tmp_path):
    path, rare = tmp_path / "tokens.npz", np.full((8, 5), 42)
    common = np.random.default_rng(0).integers(0, 9, (40, 5))
    names = {"x_val": rare, "y_val": np.arange(8) % 2, "x_test": rare}
    np.savez(path, x=common, y=np.arange(40) % 2, y_test=np.arange(8) % 2, **names)
    found = tokenizer_for(load(path), TokenizerConfig(kind="tokens", width=16))
    assert found.vocabulary == 43


def test_letters_of_the_explorer_are_those_of_the_text(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"äöü € {i}", "label": "ab"[i % 2]} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    dataset = load(path)
    letters = picture(dataset, 0)["text"]
    assert len(letters) == len(dataset.test.inputs[0])
    assert "".join(letters).startswith("äöü € ")
    assert letters[:3] == ["ä", "", "ö"]


def test_events_are_made_of_pictures_alone(tmp_path, capsys):
    said = told(capsys, "train", f"events:{series(tmp_path / 'one.csv')}", code=2)
    assert "events are made of grey images" in said


def test_a_study_that_is_broken(tmp_path, capsys):
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    few = ("--training.epochs", "1", "--search", "training.learning-rate=1e-3,1e-2")
    asked = ("tune", "digits", *few, "--trials", "1", "--out", tmp_path / "search")
    told(capsys, *asked)
    (tmp_path / "search/study.db").write_bytes(b"no database" * 200)
    assert "no readable study" in told(capsys, *asked, code=2)


def test_a_folder_keeps_its_name(tmp_path, capsys, monkeypatch):
    pictures(tmp_path / "v1.0", ("cats", "dogs"))
    monkeypatch.chdir(tmp_path)
    told(capsys, "train", "v1.0", "--preset", "tiny", "--training.epochs", "1")
    assert (tmp_path / "runs/v1.0-attentive/result.json").exists()


def test_nothing_to_predict(tmp_path, capsys):
    run = train(pictures(tmp_path / "both", ("cats", "dogs")), tmp_path / "run")
    assert "got none" in told(capsys, "predict", run, code=2)
