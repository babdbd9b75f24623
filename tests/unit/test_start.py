"""Training that starts from a run's weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nacs import data
from nacs.attentive import presets
from nacs.cli import main
from nacs.errors import UserError
from nacs.recipe import TrainConfig
from nacs.runs import load_tensors, read_json, read_metrics
from nacs.train import train

STILL = ("--training.learning-rate", "1e-30", "--training.weight-decay", "0")
ONCE = ("--training.epochs", "1")


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs") / "before"
    sizes = ("--preset", "tiny", "--sizes.modules", "12")
    assert main(["train", "digits", "--out", str(folder), *sizes, *ONCE]) == 0
    return folder


def weights(run):
    return load_tensors(run / "checkpoint" / "model.safetensors")


def further(start, out, *more):
    given = ["train", "digits", "--start", start, "--out", out, *ONCE, *more]
    return main([str(each) for each in given])


def test_it_starts_from_the_weights_in_the_sizes_of_the_run(before, tmp_path):
    assert further(before, tmp_path / "run", *STILL) == 0
    now, old = weights(tmp_path / "run"), weights(before)
    assert now.keys() == old.keys()
    for name, value in old.items():
        torch.testing.assert_close(now[name], value, rtol=0, atol=1e-4)
    told = read_json(tmp_path / "run" / "config.json")
    assert told["start"] == read_json(before / "config.json")
    assert told["sizes"]["modules"] == 12


def test_it_goes_on_learning(before, tmp_path):
    assert further(before, tmp_path / "run") == 0
    first = read_metrics(before / "metrics.jsonl", 1)[0]["val_loss"]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl", 1)[0]["val_loss"] < first


def test_a_pruned_run_can_be_trained_again(before, tmp_path, capsys):
    small = tmp_path / "small"
    assert main(["prune", str(before), "--keep", "0.5", "--out", str(small)]) == 0
    assert further(small, tmp_path / "run") == 0
    assert weights(tmp_path / "run").keys() == weights(small).keys()
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_another_start_is_another_run(before, tmp_path, capsys):
    assert further(before, tmp_path / "run") == 0
    assert further(before, tmp_path / "run") == 0  # all is done
    assert main(["train", "digits", "--out", str(tmp_path / "run"), *ONCE]) == 2
    assert "another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--start", "nowhere"], "nowhere"),
        (["--model", "perceiver"], "got one of attentive; --model says of which"),
        (["--preset", "tiny"], "expected a run of the same model in the same sizes"),
        (["--sizes.modules", "13"], "size mismatch"),
    ],
)
def test_another_model_is_refused(before, tmp_path, capsys, more, message):
    out = tmp_path / "run"
    assert further(before, out, *more) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
    assert not (out / "config.json").exists()


def test_other_texts_may_be_longer(tmp_path):
    """And what the sizes say of how symbols are mixed stays."""
    for name, length in (("short", 9), ("long", 14)):
        rows = [
            {"text": "xy"[place % 2] * (length - place % 3), "label": place % 2}
            for place in range(60)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = tmp_path / "first", tmp_path / "second"
    given = ["train", str(tmp_path / "short.jsonl"), "--out", str(first), *ONCE]
    mixed = ["--preset", "tiny", "--sizes.tokenizer.blocks", "1"]
    assert main([*given, *mixed]) == 0
    given = ["train", str(tmp_path / "long.jsonl"), "--out", str(second), *ONCE]
    assert main([*given, "--start", str(first)]) == 0
    assert weights(second).keys() == weights(first).keys()
    assert read_json(second / "config.json")["sizes"]["tokenizer"]["blocks"] == [1]


def test_other_data_are_refused(before, tmp_path, capsys):
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((40, 6, 6), np.uint8), y=np.arange(40) % 2)
    out = str(tmp_path / "run")
    assert main(["train", str(wrong), "--start", str(before), "--out", out]) == 2
    assert "of the shape and with the classes of" in capsys.readouterr().err


def test_the_library_takes_it_too(before, tmp_path):
    digits = data.load("digits")
    digits = replace(digits, train=digits.train.take(range(64)))
    config = TrainConfig(epochs=1)
    with pytest.raises(UserError, match="expected a run of the same model"):
        train(
            "attentive",
            presets.tiny(),
            digits,
            config,
            tmp_path / "run",
            start=before,
        )
    assert json.loads((before / "config.json").read_text())["model"] == "attentive"
