"""ComfyUI's HTTP interface, as far as cluster/ uses it, over nodes that sleep: what tests and the benchmark of cluster/ start.

Sleep(seed, seconds, text, then) waits; `then`: "" is well; "raise" ends the prompt, "die" the server. Save(images, filename_prefix)
writes a JSON file with the values of the prompt. A text "refused" is refused as ComfyUI refuses a value.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
for kind in ("input", "output", "temp", "user"):
    parser.add_argument(f"--{kind}-directory", type=Path)
parser.add_argument("--port", type=int)
options, _ = parser.parse_known_args()

INTERFACE = {
    "Sleep": {
        "input": {
            "required": {"seed": ["INT", {}], "seconds": ["FLOAT", {}], "text": ["STRING", {}]},
            "optional": {"then": ["STRING", {}]},
        }
    },
    "LoadImage": {"input": {"required": {"image": [[], {"image_upload": True}]}}},
    "Save": {"input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {}]}}},
}
history: dict[str, dict] = {}
waiting: queue.Queue = queue.Queue()


def run(prompt: dict) -> dict[str, dict]:
    """The outputs of a prompt, as the history has them."""
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "Sleep":
            time.sleep(inputs["seconds"])
            if inputs.get("then") == "die":
                print("the stub dies, as it was told", flush=True)
                os._exit(9)
            if inputs.get("then") == "raise":
                raise RuntimeError("raised, as it was told")
    outputs = {}
    for name, node in prompt.items():
        if node["class_type"] == "Save":
            stem = options.output_directory / node["inputs"]["filename_prefix"]
            stem.parent.mkdir(parents=True, exist_ok=True)
            number = 1 + len(list(stem.parent.glob(f"{stem.name}_*")))
            path = stem.parent / f"{stem.name}_{number:05}_.json"
            path.write_text(json.dumps(values(prompt)))
            subfolder = path.parent.relative_to(options.output_directory).as_posix()
            outputs[name] = {"images": [{"filename": path.name, "subfolder": subfolder, "type": "output"}]}
    return outputs


def values(prompt: dict) -> dict:
    found = {}
    for name, node in prompt.items():
        for key, value in node["inputs"].items():
            if node["class_type"] == "LoadImage":
                value = hashlib.sha256((options.input_directory / value).read_bytes()).hexdigest()
            if key != "filename_prefix":
                found[f"{name}.{key}"] = value
    return {**found, "inputs": sorted(path.name for path in options.input_directory.iterdir())}


def refusal(prompt: dict) -> dict | None:
    for name, node in prompt.items():
        if node["inputs"].get("text") == "refused":
            error = {
                "type": "value_not_in_list",
                "message": "Value not in list",
                "details": "text: 'refused' not in []",
            }
            whole = {
                "type": "prompt_outputs_failed_validation",
                "message": "Prompt outputs failed validation",
                "details": "",
            }
            return {"error": whole, "node_errors": {name: {"class_type": node["class_type"], "errors": [error]}}}
    return None


def work() -> None:
    while True:
        name, prompt = waiting.get()
        start = {"timestamp": int(time.time() * 1000)}
        messages = [["execution_start", start]]
        try:
            outputs, status = run(prompt), "success"
            messages.append(["execution_success", {"timestamp": int(time.time() * 1000)}])
        except Exception as error:
            outputs, status = {}, "error"
            told = {"exception_type": type(error).__name__, "exception_message": str(error)}
            messages.append(["execution_error", {"node_id": "sampler", "node_type": "Sleep", **told}])
        history[name] = {"outputs": outputs, "status": {"status_str": status, "messages": messages}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, kind, *rest = self.path.split("/")
        if kind == "history":
            self.answer({name: history[name] for name in rest if name in history})
        elif kind == "object_info":
            self.answer({name: INTERFACE[name] for name in rest if name in INTERFACE})
        else:
            self.answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/prompt":
            if refused := refusal(body["prompt"]):
                return self.answer(refused, 400)
            name = str(uuid.uuid4())
            waiting.put((name, body["prompt"]))
            return self.answer({"prompt_id": name, "node_errors": {}})
        if self.path == "/history":
            history.clear()
        return self.answer({})

    def answer(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


threading.Thread(target=work, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
