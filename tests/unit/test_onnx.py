"""A trained model as an ONNX file: onnxruntime gives the same numbers."""

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession

from nacs import data
from nacs.attentive import AttentiveCircuit, drop_modules, eliminate_edges, freeze
from nacs.cli import main
from nacs.errors import UserError
from nacs.export import export
from nacs.models import MODELS
from nacs.onnx import OnnxModel, save_onnx
from nacs.runs import load_run
from nacs.tasks import fitted


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


DIGITS, VOWELS = data.load("digits"), data.load("japanese-vowels")


def built(name, dataset, **changes):
    config = replace(fitted(MODELS[name].preset("tiny"), dataset), **changes)
    return MODELS[name].build(config).eval()


def of_bytes():
    facts = replace(VOWELS.facts, kind="bytes")
    model = built("attentive", VOWELS)
    tokenizer = replace(model.config.tokenizer, kind="bytes")
    return AttentiveCircuit(replace(model.config, tokenizer=tokenizer)).eval(), facts


def pruned(model):
    return eliminate_edges(drop_modules(model, keep=6), removed=0.6)


def threshold():
    """Read-outs that hear nobody: a row of the kernel is −∞ throughout."""
    return built("attentive", VOWELS, evaluation="threshold", bandwidth=0.1)


CASES = {
    "images, pruned": lambda: (pruned(built("attentive", DIGITS)), DIGITS.facts),
    "series, threshold": lambda: (threshold(), VOWELS.facts),
    "series, conditional": lambda: (
        built("attentive", VOWELS, generator="conditional", layers=1),
        VOWELS.facts,
    ),
    "series, neuronal": lambda: (built("neuronal", VOWELS), VOWELS.facts),
    "bytes": of_bytes,
}


def inputs_for(facts, batch, length):
    """Inputs, some padded or missing; one sample is padding alone."""
    if facts.kind == "image":
        return (torch.randn(batch, *facts.shape),)
    keep = torch.ones(batch, length, dtype=torch.bool)
    keep[0, length // 2 + 1 :] = False
    keep[-1] = batch == 1
    if facts.kind == "bytes":
        return torch.randint(256, (batch, length)), keep
    inputs = torch.randn(batch, length, facts.shape[-1])
    inputs[..., 0] = torch.rand(batch, length).cumsum(1)
    inputs[0, 0, 1:3] = torch.nan
    return inputs, keep


LONGER = {"series, threshold", "series, neuronal", "bytes"}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (c in LONGER)) for c in CASES],
)
def test_onnxruntime_gives_the_same_numbers(case, tmp_path):
    model, facts = CASES[case]()
    path = tmp_path / "model.onnx"
    save_onnx(path, export(model, facts), facts)
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    for batch, length in ((1, 29), (5, 7), (3, 1), (2, 90)):
        inputs = inputs_for(facts, batch, length)
        given = dict(zip(names, (each.numpy() for each in inputs), strict=True))
        with torch.no_grad():
            wanted = model(*inputs).numpy()
        # Rounding of float32 sums in another order, of answers near 1.
        np.testing.assert_allclose(
            session.run(None, given)[0], wanted, rtol=0, atol=1e-5
        )
    axes = session.get_inputs()[0].shape
    assert axes[:2] == (["batch", 1] if facts.kind == "image" else ["batch", "length"])
    kept = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert json.loads(kept["facts.json"]) == json.loads(json.dumps(asdict(facts)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs") / "digits.v1"
    short = ["--training.epochs", "2", "--sizes.modules", "12"]
    assert main(["train", "digits", "--out", str(folder), *short]) == 0
    return folder


def test_the_verb_measures_eight_bits(trained, capfd):
    capfd.readouterr()
    arguments = ["export", str(trained), "--format", "onnx", "--int8", "--json"]
    assert main(arguments) == 0
    printed = capfd.readouterr()
    told = json.loads(printed.out)
    assert printed.err == ""
    path = trained.with_name("digits.v1.onnx")
    assert told["program"] == str(path)
    assert told["bytes"] == path.stat().st_size < 0.8 * told["float32_bytes"]
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "MatMulInteger" in kinds
    before, after = told["before"], told["after"]
    assert before["count"] == after["count"] == len(DIGITS.test)
    assert 0 < abs(before["loss"] - after["loss"]) < 0.05
    batch = DIGITS.test.batch(range(20))
    wanted = load_run(trained)[0](batch.inputs).detach()
    found = OnnxModel(path)(batch.inputs)
    # 7 bits of weights: a hundredth of the largest, some layers deep.
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.2 * wanted.std().item())


def test_data_that_is_gone_leaves_the_file(trained, capsys, monkeypatch, tmp_path):
    def gone(*_, **__):
        raise UserError("digits: no such file.")

    monkeypatch.setattr("nacs.data.again.load", gone)
    monkeypatch.setattr("nacs.verbs.export.export", lambda *_: small())
    capsys.readouterr()
    out = tmp_path / "digits.onnx"
    options = ["--format", "onnx", "--int8", "--out", str(out), "--json"]
    assert main(["export", str(trained), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before"] is None
    assert told["after"] == "not known: digits: no such file."
    assert out.stat().st_size == told["bytes"]


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(3))

    def forward(self, inputs):
        return inputs.flatten(1)[:, :3] + self.bias


def small():
    return export(Small().eval(), DIGITS.facts)


def test_a_file_that_differs_is_not_put_in_place(tmp_path, monkeypatch):
    program = small()

    def other(path):
        return lambda *inputs: OnnxModel(path)(*inputs) + 0.0001

    save_onnx(tmp_path / "right.onnx", program, DIGITS.facts)
    monkeypatch.setattr("nacs.onnx.OnnxModel", other)
    with pytest.raises(UserError, match="differs from the model by"):
        save_onnx(tmp_path / "wrong.onnx", program, DIGITS.facts)
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


def test_what_onnx_cannot_express_is_said_in_one_line(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, inputs):
            return torch.special.bessel_j0(inputs).flatten(1)[:, :3]

    program = export(Odd().eval(), DIGITS.facts)
    with pytest.raises(UserError, match="ONNX cannot express this model") as caught:
        save_onnx(tmp_path / "model.onnx", program, DIGITS.facts)
    assert "\n" not in str(caught.value)


def test_a_circuit_of_a_context_is_frozen_for_one(tmp_path):
    model = built("attentive", DIGITS)
    context = replace(model.config.tokenizer, kind="tokens", vocabulary=5, length=8)
    config = replace(model.config, generator="conditional", context=context)
    model = AttentiveCircuit(config).eval()
    with pytest.raises(UserError, match=r"nacs\.freeze\(model, context"):
        export(model, DIGITS.facts)
    told, pictures = torch.tensor([[1, 2, 4]]), torch.randn(3, 1, 8, 8)
    frozen = freeze(model, told, packed=False)
    program = export(frozen, DIGITS.facts).module()
    wanted = model(pictures, context=told.expand(3, -1))
    torch.testing.assert_close(program(pictures), wanted, rtol=0, atol=1e-5)


def test_bad_calls(trained, tmp_path, capsys):
    for arguments, words in (
        (["--format", "onnx", "--out", str(tmp_path / "a.pt2")], "ends in .onnx"),
        (["--int8"], "--format onnx"),
    ):
        capsys.readouterr()
        assert main(["export", str(trained), *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'nacs\[onnx\]'"):
        OnnxModel(tmp_path / "model.onnx")


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("no model")
    with pytest.raises(UserError, match="onnxruntime cannot run"):
        OnnxModel(path)
