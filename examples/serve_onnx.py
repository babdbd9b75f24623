"""Serve an ONNX file over HTTP with onnxruntime and numpy; no torch, no nacs.

nacs export runs/digits --format onnx --out digits.onnx
python serve_onnx.py digits.onnx 8000
curl -d '{"inputs": [...]}' localhost:8000    # one array a sample, pixels in [0, 1]
"""

import json
import sys
from collections.abc import Callable
from wsgiref.simple_server import make_server

import numpy as np
from onnxruntime import InferenceSession

session = InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_inputs()]
facts = json.loads(session.get_modelmeta().custom_metadata_map["facts.json"])
mean, deviation = np.float32(facts["mean"] or 0), np.float32(facts["deviation"] or 1)


def predict(raw: list) -> list:
    """Logits or numbers, a row a sample."""
    if facts["kind"] in {"bytes", "tokens"}:
        inputs = np.array(raw, np.int64)
    else:
        inputs = (np.array(raw, np.float32) - mean) / deviation
    given = {"inputs": inputs, "keep": np.ones(inputs.shape[:2], bool)}
    return session.run(None, {name: given[name] for name in names})[0].tolist()


def app(request: dict, respond: Callable) -> list[bytes]:
    """Answer one request in JSON."""
    try:
        asked = json.loads(request["wsgi.input"].read(int(request["CONTENT_LENGTH"])))
        told = {"classes": facts["classes"], "answers": predict(asked["inputs"])}
        respond("200 OK", [("Content-Type", "application/json")])
    except Exception as error:  # whatever a stranger sends
        told = {"error": str(error)}
        respond("400 Bad Request", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


with make_server("127.0.0.1", int(sys.argv[2]), app) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
