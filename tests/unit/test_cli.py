"""The command line from train to predict, and what it says to bad input."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nacs import native
from nacs.attentive import AttentiveCircuit, presets
from nacs.attentive.priors import graphon
from nacs.cli import main
from nacs.data import load
from nacs.errors import UserError
from nacs.verbs import prune


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    arguments = ["train", "digits", "--out", str(folder), "--training.epochs", "2"]
    assert main([*arguments, "--sizes.modules", "12"]) == 0
    return folder


def said(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_train_takes_overrides(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["sizes"]["modules"] == 12
    assert config["training"]["epochs"] == 2


def test_evaluate(trained, capsys):
    figures = json.loads(said(capsys, "evaluate", trained, "--json"))
    result = json.loads((trained / "result.json").read_text())
    assert figures["accuracy"] == result["test_accuracy"]
    assert "accuracy" in said(capsys, "evaluate", trained)


def test_predict_a_data_set(trained, capsys):
    rows = json.loads(said(capsys, "predict", trained, "digits", "--format", "json"))
    assert len(rows) == 359
    total = sum(value for key, value in rows[0].items() if key != "id")
    assert total == pytest.approx(1, abs=1e-5)
    assert said(capsys, "predict", trained, "digits").startswith("id,")


def test_predict_files(trained, capsys, tmp_path):
    """A picture in a file gets the probabilities of the same picture in the data."""
    digits = load("digits")
    known = json.loads(said(capsys, "predict", trained, "digits", "--format", "json"))
    folder = tmp_path / "more"
    folder.mkdir()
    files = [tmp_path / "one.png", folder / "two.png"]
    for file, image in zip(files, digits.test.inputs, strict=False):
        Image.fromarray(image[0]).save(file)
    Image.fromarray(digits.test.inputs[2, 0]).convert("RGB").save(folder / "x.png")
    text = said(capsys, "predict", trained, files[0], folder, "--format", "json")
    rows = json.loads(text)
    assert [row["id"] for row in rows] == [*map(str, files), str(folder / "x.png")]
    for row, like in zip(rows, known, strict=False):
        assert row | {"id": ""} == pytest.approx(like | {"id": ""}, abs=1e-5)
    np.savez(tmp_path / "x.npz", x=digits.test.inputs[:3])
    text = said(capsys, "predict", trained, tmp_path / "x.npz", "--format", "json")
    assert json.loads(text)[2]["7"] == pytest.approx(known[2]["7"], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.png", "no such file"),
        ("empty", "expected files of type"),
        ("broken.png", "expected an image"),
        ("large.png", "expected an image of 8x8 pixels and 1 channels, as in training"),
        ("words.txt", "expected data of kind image, as in training, got bytes"),
        ("odd.doc", "unknown type"),
    ],
)
def test_predict_says_what_is_wrong_with_a_file(
    name, message, trained, capsys, tmp_path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("L", (9, 9)).save(tmp_path / "large.png")
    for each in ("words.txt", "odd.doc"):
        (tmp_path / each).write_text("words")
    assert main(["predict", str(trained), str(tmp_path / name)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_prune(trained, capsys, tmp_path):
    ways = (["--keep", "0.25"], ["--keep", "0.25", "--by", "effect"])
    ways += (["--edges", "0.1"], ["--max-drop", "0.5", "--by", "effect"])
    for index, options in enumerate(ways):
        out = tmp_path / str(index)
        text = said(capsys, "prune", trained, *options, "--out", out, "--json")
        figures = json.loads(text)
        again = json.loads(said(capsys, "evaluate", out, "--json"))
        assert again["accuracy"] == figures["after"]["accuracy"]
        if index < 2:
            assert figures["modules"] == 3
            small, large = (
                (run / "checkpoint" / "model.safetensors").stat().st_size
                for run in (out, trained)
            )
            assert small < large


def test_modules_of_a_conditional_circuit_have_no_ranking():
    sizes = replace(presets.tiny(), generator="conditional")
    with pytest.raises(UserError, match="use --by importance"):
        prune._ranking(AttentiveCircuit(sizes), load("digits"))


def test_describe(trained, capsys):
    figures = json.loads(said(capsys, "describe", trained, "--json"))
    assert figures["sizes"]["modules"] == 12
    assert 0 < figures["density"] < 1
    assert figures["prior_density"] == pytest.approx(
        (graphon("scale-free", 12).sum() - graphon("scale-free", 12).trace()) / 132
    )
    assert figures["multiply_adds"] > 0
    text = said(capsys, "describe", "tiny-imagenet", "--model", "perceiver", "--json")
    assert json.loads(text)["parameters"] == 23_011_240
    assert "perceiver" in said(capsys, "describe", "--models")
    text = said(capsys, "describe", "tiny", "--model", "neuronal", "--json")
    assert json.loads(text)["compiled"] == native.level()


def test_data_and_version(capsys):
    assert "mnist-5k" in said(capsys, "data", "list")
    assert said(capsys, "--version").strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "there is no verb 'nope'"),
        (["train", "nowhere.npz"], "nowhere.npz"),
        (["train", "digits", "--model", "perciever"], "did you mean 'perceiver'"),
        (["train", "digits", "--preset", "huge"], "presets: "),
        (["train", "digits", "--training.epochs", "0"], "at least 1"),
        (["train"], "nacs train --help"),
        (["train", "digits", "--training.batch", "many"], "many"),
        (["evaluate", "nowhere", "--nope"], "--nope"),
        (["evaluate", "nowhere"], "no such folder"),
        (
            ["train", "digits", "--model", "neuronal", "--preset", "9k"],
            "presets: small",
        ),
        (["predict", "nowhere", "digits"], "no such folder"),
        (["prune", "nowhere", "--keep", "0.5"], "no such folder"),
        (["describe", "nowhere"], "no run folder and no preset"),
    ],
)
def test_bad_input_gets_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "1.5"], "(0, 1]"),
        (["--keep", "0"], "(0, 1]"),
        (["--edges", "-0.1"], "[0, 1]"),
        (["--max-drop", "1"], "[0, 1)"),
        (["--keep", "0.5", "--max-drop", "0.1"], "exclude each other"),
        (["--edges", "0.5", "--by", "effect"], "give --keep or --max-drop with it"),
        ([], "nothing to prune"),
    ],
)
def test_shares_that_make_no_sense(options, message, trained, capsys):
    assert main(["prune", str(trained), *options]) == 2
    assert message in capsys.readouterr().err
    assert not trained.with_name("digits-pruned").exists()


def test_prune_and_train_overwrite_nothing(trained, capsys, tmp_path):
    out = tmp_path / "small"
    said(capsys, "prune", trained, "--keep", "0.5", "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["prune", str(trained), "--keep", "0.2", "--out", str(out)]) == 2
    assert "already holds something" in capsys.readouterr().err
    assert main(["train", "digits", "--out", str(out)]) == 2
    assert "another configuration" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    after.pop(out / ".lock")
    assert before == after
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_size_and_length_are_remembered(capsys, tmp_path):
    for label, shade in (("dark", 20), ("light", 200)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for row in range(12):
            image = Image.new("L", (9 + row, 8), shade + row)
            image.save(tmp_path / "pictures" / label / f"{row}.png")
    lines = [{"text": "a" * n + "bc"[n % 2], "label": n % 2} for n in range(1, 41)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for source, option in (("pictures", "--size"), ("texts.jsonl", "--length")):
        out = tmp_path / f"run-{source}"
        arguments = ["train", tmp_path / source, option, "8", "--out", out]
        said(capsys, *arguments, "--training.epochs", "1", "--preset", "tiny")
        figures = json.loads(said(capsys, "evaluate", out, "--json"))
        result = json.loads((out / "result.json").read_text())
        assert figures["loss"] == pytest.approx(result["test_loss"], abs=1e-6)
        said(capsys, "prune", out, "--keep", "0.5")
        said(capsys, "predict", out, tmp_path / source)


def test_a_neuronal_model_from_a_table_to_predictions(capsys, tmp_path):
    """Series of two classes: rising ones and falling ones, some values missing."""
    random = np.random.default_rng(0)
    rows = ["id,time,volt,label"]
    for name in range(60):
        for when in sorted(random.uniform(0, 9, 6)):
            volt = when * (1 if name % 2 else -1) + random.normal()
            shown = "" if random.random() < 0.1 else f"{volt:.3f}"
            rows.append(f"{name},{when:.3f},{shown},{'up' if name % 2 else 'down'}")
    (tmp_path / "x.csv").write_text("\n".join(rows))
    out = tmp_path / "run"
    said(capsys, "train", tmp_path / "x.csv", "--model", "neuronal", "--out", out)
    figures = json.loads(said(capsys, "evaluate", out, "--json"))
    assert figures["accuracy"] > 0.9
    assert figures["auroc"] > 0.9
    thin = json.loads(said(capsys, "evaluate", out, "--drop", "0.5", "--json"))
    assert thin["loss"] != figures["loss"]
    assert "id,down,up" in said(capsys, "predict", out, tmp_path / "x.csv")
    assert "neuronal" in said(capsys, "describe", out)
    assert main(["prune", str(out), "--keep", "0.5"]) == 2
    assert "only attentive circuits have modules" in capsys.readouterr().err


def test_other_data(trained, capsys, tmp_path):
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((40, 6, 6), np.uint8), y=np.arange(40) % 2)
    assert main(["evaluate", str(trained), "--data", str(wrong)]) == 2
    assert "expected an image of 8x8 pixels" in capsys.readouterr().err


def test_help_starts_quickly():
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", "from nacs.cli import main; main(['--help'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "examples:" in shown.stdout
    assert time.perf_counter() - start < 2
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, nacs.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize(
    "verb", ["train", "evaluate", "predict", "prune", "describe", "data", "demo"]
)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"nacs {verb}" in capsys.readouterr().out


def test_an_unknown_option_is_named_once(capsys):
    assert main(["evaluate", "runs/none", "--colour", "red"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("nacs: Unrecognized options: --colour, red")
    assert told.count("Unrecognized") == 1
