"""Serve an ONNX file over HTTP with onnxruntime and numpy; no torch, no nacs.

nacs export runs/digits --format onnx --out digits.onnx
python serve_onnx.py digits.onnx 8000
curl -d '{"inputs": [...]}' localhost:8000    # one array a sample, pixels in [0, 1]
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
from onnxruntime import InferenceSession

session = InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = json.loads(session.get_modelmeta().custom_metadata_map["facts.json"])
mean, deviation = np.float32(facts["mean"] or 0), np.float32(facts["deviation"] or 1)
text = facts["kind"] in {"bytes", "tokens"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inputs = np.array(asked["inputs"], np.int64 if text else np.float32)
            inputs = inputs if text else (inputs - mean) / deviation
            given = {"inputs": inputs, "keep": np.ones(inputs.shape[:2], bool)}
            names = [each.name for each in session.get_inputs()]
            answers = session.run(None, {name: given[name] for name in names})[0]
            code, told = 200, {"classes": facts["classes"], "answers": answers.tolist()}
        except Exception as error:  # whatever a stranger sends
            code, told = 400, {"error": str(error)}
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())


server = HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
