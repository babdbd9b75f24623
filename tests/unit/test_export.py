"""A trained model as a program: the same numbers, any batch and length, no nacs."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from nacs import data
from nacs.attentive import AttentiveCircuit, freeze, presets
from nacs.cli import main
from nacs.errors import UserError
from nacs.export import example, export
from nacs.models import MODELS
from nacs.runs import facts_of, load_run
from nacs.tasks import fitted


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    short = ["--training.epochs", "1", "--sizes.modules", "12"]
    assert main(["train", "digits", "--out", str(folder), *short]) == 0
    return folder


def built(name, dataset, preset="tiny"):
    config = fitted(MODELS[name].preset(preset), dataset)
    return MODELS[name].build(config).eval()


@pytest.mark.parametrize(
    "name", ["attentive", "perceiver", "transformer", "contiformer"]
)
def test_a_program_takes_any_batch_and_length(name):
    dataset = data.load("japanese-vowels")
    model = built(name, dataset)
    program = export(model, dataset.facts).module()
    for count, length in ((1, 29), (5, 7), (3, 1)):
        inputs = torch.randn(count, length, 13)
        keep = torch.ones(count, length, dtype=torch.bool)
        keep[0, length // 2 + 1 :] = False
        torch.testing.assert_close(
            program(inputs, keep), model(inputs, keep), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"horizon": "elapsed"},
        {"top_k": 0, "integration": "quadrature"},
        {"causal": True, "window": 5},
        {"gate": "circuit", "horizon": "gate", "integration": "gate"},
    ],
    ids=str,
)
def test_neuronal_programs_take_any_batch_and_length(changes):
    dataset = data.load("japanese-vowels")
    config = fitted(MODELS["neuronal"].preset("tiny"), dataset)
    config = replace(config, attention=replace(config.attention, **changes))
    model = MODELS["neuronal"].build(config).eval()
    exported = export(model, dataset.facts)
    assert "nacs" not in str(exported.graph)  # it runs without our operations
    program = exported.module()
    for count, length in ((1, 29), (5, 7), (3, 1)):  # more keys than pairs, and fewer
        inputs = torch.randn(count, length, 13)
        inputs[..., 0] = torch.rand(count, length).cumsum(1)
        keep = torch.ones(count, length, dtype=torch.bool)
        keep[0, length // 2 + 1 :] = False
        torch.testing.assert_close(
            program(inputs, keep), model(inputs, keep), rtol=0, atol=1e-5
        )


def test_bytes_and_symbols():
    facts = replace(data.load("japanese-vowels").facts, kind="bytes")
    config = presets.tiny()
    tokenizer = replace(config.tokenizer, kind="bytes", width=32)
    model = AttentiveCircuit(replace(config, tokenizer=tokenizer)).eval()
    program = export(model, facts).module()
    text = torch.tensor([list(b"any length at all")])
    keep = torch.ones_like(text, dtype=torch.bool)
    torch.testing.assert_close(program(text, keep), model(text, keep))


def test_circuits_are_frozen_where_they_can_be():
    dataset = data.load("digits")
    frozen = built("attentive", dataset)
    names = [name for name, _ in export(frozen, dataset.facts).named_parameters()]
    assert not [name for name in names if "code_to_scale" in name]
    config = replace(frozen.config, generator="conditional")
    model = AttentiveCircuit(config).eval()
    pictures = torch.randn(4, 1, 8, 8)
    program = export(model, dataset.facts).module()
    torch.testing.assert_close(program(pictures), model(pictures), rtol=0, atol=1e-5)


def test_a_program_that_differs_is_not_handed_out(monkeypatch):
    dataset = data.load("digits")
    model = built("attentive", dataset)

    def wrong(circuit, **options):
        frozen = freeze(circuit, **options)
        frozen.read_out.to_logits.bias += 0.01
        return frozen

    monkeypatch.setattr("nacs.export.freeze", wrong)
    with pytest.raises(UserError, match="differs from the model"):
        export(model, dataset.facts)


def test_what_torch_cannot_express_is_said_in_one_line():
    class Counting(torch.nn.Module):
        def forward(self, inputs):
            return inputs.flatten(1) * len(inputs)  # a batch of one size only

    with pytest.raises(UserError, match="cannot express this model") as caught:
        export(Counting().eval(), data.load("digits").facts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bytes", "series"])
def test_examples_have_padding(kind):
    facts = replace(data.load("japanese-vowels").facts, kind=kind)
    inputs, keep = example(facts)
    assert inputs.shape[:2] == keep.shape
    assert keep[0].all()
    assert not keep[-1, -1]


READ = """
import json, sys, torch
assert "nacs" not in sys.modules
told = {"facts.json": ""}
program = torch.export.load(sys.argv[1], extra_files=told).module()
facts = json.loads(told["facts.json"])
pictures = torch.tensor(json.loads(sys.stdin.read()))
print(json.dumps([facts["classes"], program(pictures).tolist()]))
"""


def test_the_file_needs_no_nacs(trained, tmp_path, capsys):
    path = tmp_path / "program.pt2"
    capsys.readouterr()
    assert main(["export", str(trained), "--out", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == path.stat().st_size
    model, config = load_run(trained)
    batch = data.load(facts_of(config).source).test.batch(range(5))
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, str(path)],
        input=json.dumps(batch.inputs.tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    classes, logits = json.loads(found.stdout)
    assert classes == list(map(str, range(10)))
    np.testing.assert_allclose(logits, model(batch.inputs).tolist(), atol=1e-5)


def test_nothing_but_the_answer_is_printed(tmp_path):
    torch.set_default_dtype(torch.float32)
    run, path = tmp_path / "vowels", tmp_path / "program.pt2"
    arguments = ["japanese-vowels", "--model", "neuronal", "--preset", "tiny"]
    short = ["--training.epochs", "1", "--out", str(run)]
    assert main(["train", *arguments, *short]) == 0
    found = subprocess.run(
        [sys.executable, "-m", "nacs.cli", "export", str(run), "--out", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""
    assert str(path) in found.stdout


def test_bad_calls_of_export(trained, tmp_path, capsys):
    taken = tmp_path / "taken.pt2"
    taken.write_text("mine")
    for arguments, words in (
        ([str(trained), "--out", str(taken)], "is there already"),
        ([str(trained), "--out", str(tmp_path / "model.onnx")], "ends in .pt2"),
        ([str(tmp_path / "nowhere")], "no such folder"),
    ):
        capsys.readouterr()
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert taken.read_text() == "mine"
