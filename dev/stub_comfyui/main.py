"""ComfyUI's HTTP interface, as far as cluster/ and examples/ use it, over nodes that sleep: what their tests and benchmark start.

Sleep(seed, seconds, text, then) waits; `then`: "" is well; "raise" ends the prompt, "die" the server, "hang up" the websocket.
Save(images, filename_prefix) writes a JSON file with the values of the prompt. A text "refused" is refused as ComfyUI refuses
a value.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import queue
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

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
queued: list[str] = []  # ids of prompts that wait or run
sockets: dict[str, queue.Queue] = {}  # by client: what its websocket is to send, None to close it


def run(prompt: dict, tell=lambda kind, **data: None) -> dict[str, dict]:
    """The outputs of a prompt, as the history has them."""
    for name, node in prompt.items():
        inputs = node["inputs"]
        tell("executing", node=name)
        if node["class_type"] == "Sleep":
            if inputs.get("then") == "hang up":
                tell(None)
            tell("progress", node=name, value=1, max=2)
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
        name, prompt, client = waiting.get()

        def tell(kind, name=name, client=client, **data):
            if client in sockets:
                sockets[client].put(kind and json.dumps({"type": kind, "data": {**data, "prompt_id": name}}))

        start = {"timestamp": int(time.time() * 1000)}
        messages = [["execution_start", start]]
        try:
            outputs, status = run(prompt, tell), "success"
            messages.append(["execution_success", {"timestamp": int(time.time() * 1000)}])
        except Exception as error:
            outputs, status = {}, "error"
            told = {"exception_type": type(error).__name__, "exception_message": str(error)}
            messages.append(["execution_error", {"node_id": "sampler", "node_type": "Sleep", **told}])
        history[name] = {"outputs": outputs, "status": {"status_str": status, "messages": messages}}
        queued.remove(name)
        tell("executing", node=None)


def frame(kind: int, content: bytes) -> bytes:
    """Of a websocket (RFC 6455), for less than 64 KiB."""
    length = bytes([len(content)]) if len(content) < 126 else b"\x7e" + len(content).to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + content


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, kind, *rest = self.path.split("/")
        if kind == "history":
            self.answer({name: history[name] for name in rest if name in history})
        elif kind == "object_info":
            self.answer({name: INTERFACE[name] for name in rest if name in INTERFACE})
        elif kind == "queue":
            self.answer({"queue_running": [[0, name] for name in queued], "queue_pending": []})
        elif kind.startswith("view?"):
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            folder = getattr(options, f"{asked['type']}_directory")
            self.answer_bytes((folder / asked.get("subfolder", "") / asked["filename"]).read_bytes())
        elif kind.startswith("ws?"):
            self.websocket(urlsplit(self.path).query.partition("clientId=")[2])
        else:
            self.answer({})

    def websocket(self, client: str) -> None:
        proof = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(proof.encode()).digest()).decode())
        self.end_headers()
        messages = sockets[client] = queue.Queue()
        with contextlib.suppress(OSError):  # the client has gone
            self.wfile.write(frame(2, b"a preview"))
            while message := messages.get():
                self.wfile.write(frame(1, message.encode()))
        self.close_connection = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            return self.upload(body)
        body = json.loads(body)
        if self.path == "/prompt":
            if refused := refusal(body["prompt"]):
                return self.answer(refused, 400)
            name = str(uuid.uuid4())
            queued.append(name)
            waiting.put((name, body["prompt"], body.get("client_id")))
            return self.answer({"prompt_id": name, "node_errors": {}})
        if self.path == "/interrupt":
            print("told to stop", body, flush=True)
        if self.path == "/history":
            history.clear()
        return self.answer({})

    def upload(self, body: bytes) -> None:
        edge = self.headers["Content-Type"].partition("boundary=")[2].encode()
        file = next(part for part in body.split(b"--" + edge) if b"filename=" in part)
        head, _, content = file.partition(b"\r\n\r\n")
        name = re.search(rb'filename="(.+)"', head)[1].decode()
        (options.input_directory / name).write_bytes(content.removesuffix(b"\r\n"))
        self.answer({"name": name, "subfolder": "", "type": "input"})

    def answer(self, content: dict, status: int = 200) -> None:
        self.answer_bytes(json.dumps(content).encode(), status)

    def answer_bytes(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


threading.Thread(target=work, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
