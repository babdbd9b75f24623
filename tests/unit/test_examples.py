"""What is in examples/ runs and does what it says."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from nacs import data
from nacs.evaluation import predict
from nacs.export import export
from nacs.models import MODELS
from nacs.onnx import save_onnx
from nacs.tasks import fitted

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name):
    words = [sys.executable, "-W", "ignore", str(EXAMPLES / name)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["plain_pytorch.py", "lightning_module.py"])
def test_layers_learn_in_a_model_of_somebody_else(name):
    told = re.search(r"accuracy\W+([\d.]+)", run(name))
    assert float(told[1]) > 0.9  # measured 1.00; guessing has 0.5


def ask(address, body):
    with urllib.request.urlopen(address, data=json.dumps(body).encode()) as answer:
        return json.load(answer)


@pytest.fixture(params=["digits", "japanese-vowels"])
def served(request, tmp_path):
    """An address, and the data set and model behind it."""
    torch.set_default_dtype(torch.float32)
    dataset = data.load(request.param)
    model = MODELS["attentive"].build(
        fitted(MODELS["attentive"].preset("tiny"), dataset)
    )
    path = tmp_path / "model.onnx"
    save_onnx(path, export(model.eval(), dataset.facts), dataset.facts)
    words = [sys.executable, str(EXAMPLES / "serve_onnx.py"), str(path), "0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as it:
        try:
            yield it.stdout.readline().decode().strip(), dataset, model
        finally:
            it.kill()


def test_an_onnx_file_is_served(served):
    address, dataset, model = served
    same = dataset.test.take([0])  # one, for series are of different lengths
    raw = np.asarray(same.inputs[0], dtype=float)
    raw = (
        raw / 255
        if dataset.kind == "image" and same.inputs[0].dtype == np.uint8
        else raw
    )
    told = ask(address, {"inputs": [raw.tolist()]})
    assert tuple(told["classes"]) == dataset.facts.classes
    wanted = predict(model, same).numpy()
    np.testing.assert_allclose(told["answers"], wanted, atol=1e-5)
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        ask(address, {"pictures": []})
    assert "inputs" in json.load(refused.value)["error"]


def test_the_server_imports_neither_torch_nor_nacs():
    text = (EXAMPLES / "serve_onnx.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(imported) == {
        "json",
        "sys",
        "collections",
        "wsgiref",
        "numpy",
        "onnxruntime",
    }
