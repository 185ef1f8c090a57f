"""examples/queue_batch.py against a stub of ComfyUI, as users start it; and its websocket."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from animatediff_dev_pack import ROOT, import_file
from animatediff_dev_server import ComfyUI

client = import_file("animatediff_examples_client", Path(ROOT) / "examples" / "comfyui_client.py")
WORKFLOW = {
    "3": {
        "class_type": "Sleep",
        "inputs": {"seed": 1, "seconds": 0.01, "text": "a fox", "then": ""},
        "_meta": {"title": "The sampler"},
    },
    "picture": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
    "9": {"class_type": "Save", "inputs": {"images": ["3", 0], "filename_prefix": "clips/fox"}},
}


@pytest.fixture
def start(tmp_path):
    """`start()`: a stub of ComfyUI, with folders of its own."""
    started = []

    def start() -> ComfyUI:
        run = tmp_path / f"server{len(started)}"
        kinds = ("input", "output", "temp", "user")
        for kind in kinds:
            (run / kind).mkdir(parents=True)
        arguments = [text for kind in kinds for text in (f"--{kind}-directory", str(run / kind))]
        server = ComfyUI(ROOT / "dev" / "stub_comfyui", sys.executable, run, arguments)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.stop()


class Batch:
    def __init__(self, folder: Path, workflow: dict):
        self.folder, self.out = folder, folder / "out"
        (folder / "workflow.json").write_text(json.dumps(workflow))

    def table(self, *rows: dict) -> None:
        with (self.folder / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(header for row in rows for header in row)))
            writer.writeheader()
            writer.writerows(rows)

    def start(self, *servers, patience: float = 0) -> subprocess.Popen:
        urls = [text for server in servers for text in ("--server", getattr(server, "url", server))]
        command = [sys.executable, str(ROOT / "examples" / "queue_batch.py"), "workflow.json", "table.csv", "out"]
        command += [*urls, "--patience", str(patience)]
        return subprocess.Popen(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *servers, code: int = 0, **options) -> str:
        """What the command prints; it must exit with ``code``."""
        process = self.start(*servers, **options)
        printed, _ = process.communicate(timeout=100)
        assert process.returncode == code, printed
        return printed

    def saved(self, job: str) -> dict:
        """What the stub saved: the values of the prompt that it ran."""
        return json.loads((self.out / job / "clips" / "fox_00001_.json").read_text())

    def done(self) -> set[str]:
        return {path.name for path in self.out.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def batch(tmp_path) -> Batch:
    """Of the workflow without the picture."""
    return Batch(tmp_path, {name: node for name, node in WORKFLOW.items() if name != "picture"})


def seeds(count: int, **values) -> list[dict]:
    return [{"3.seed": seed, **{f"3.{name}": value for name, value in values.items()}} for seed in range(1, count + 1)]


def test_each_row_is_a_prompt_with_its_values_and_files(start, tmp_path):
    batch = Batch(tmp_path, WORKFLOW)
    content = bytes(range(256)) + b"\r\n--\r\n"
    (tmp_path / "fox.png").write_bytes(content)
    batch.table(
        {"job": "fox", "The sampler.seed": 7, "3.text": "a red fox", "picture.image:file": "fox.png"},
        {"job": "hare", "The sampler.seed": 8, "3.text": "a hare, running", "picture.image:file": "fox.png"},
    )
    printed = batch.run(start())
    assert batch.done() == {"fox", "hare"}
    assert batch.saved("hare")["3.seed"] == 8
    assert batch.saved("hare")["3.text"] == "a hare, running"
    assert batch.saved("fox")["picture.image"] == hashlib.sha256(content).hexdigest()
    assert "fox: clips/fox_00001_.json" in printed
    assert "2 done, 0 failed" in printed
    record = json.loads((batch.out / "fox" / "job.json").read_text())
    assert record["files"] == ["clips/fox_00001_.json"]


def test_a_second_start_makes_what_is_not_there_yet(start, batch):
    server = start()
    batch.table(*seeds(2))
    batch.run(server)
    before = (batch.out / "00002" / "job.json").read_text()
    batch.table(*seeds(3))
    assert "1 jobs to do" in batch.run(server)
    assert batch.done() == {"00002", "00003", "00004"}
    assert (batch.out / "00002" / "job.json").read_text() == before


@pytest.fixture
def heeds_ctrl_c():
    """Shells start what runs in the background with Ctrl+C ignored, which the commands that a test starts would inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_after_ctrl_c_the_same_command_goes_on(start, batch):
    server = start()
    batch.table(*seeds(3, seconds=2))
    process = batch.start(server)
    for line in process.stdout:
        if line.startswith("00002:"):
            break
    while not server.get("/queue")["queue_running"]:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "goes on from here" in printed
    assert batch.done() == {"00002"}
    assert not list(batch.out.glob(".unfinished/*"))
    assert "told to stop {'prompt_id': " in server.log()
    assert "2 jobs to do" in batch.run(server)
    assert batch.done() == {"00002", "00003", "00004"}


def test_a_row_that_was_changed_is_told_and_nothing_overwritten(start, batch):
    server = start()
    batch.table(*seeds(1))
    batch.run(server)
    batch.table(*seeds(1, text="a hare"))
    printed = batch.run(server, code=2)
    assert "was made with another workflow or other values" in printed
    assert batch.saved("00002")["3.text"] == "a fox"


def test_what_comfyui_refuses_is_told_with_the_node_and_what_to_do_and_the_rest_is_made(start, batch):
    batch.table(*seeds(2), {"3.seed": 9, "3.text": "refused"}, {"3.seed": 10, "3.then": "raise"})
    printed = batch.run(start(), code=1)
    assert (
        "00004 (row 4) failed: Node 3 \"The sampler\" (Sleep): Value not in list: text: 'refused' not in []. "
        "Choose one that the server has, or put the file into its folder." in printed
    )
    assert "00005 (row 5) failed: sampler (Sleep): RuntimeError: raised, as it was told" in printed
    assert "2 done, 2 failed" in printed
    assert batch.done() == {"00002", "00003"}


def test_several_servers_share_the_jobs_and_take_over_from_one_that_dies(start, batch):
    one, other = start(), start()
    batch.table(*seeds(8, seconds=0.4))
    process = batch.start(one, other)
    assert process.stdout.readline() == "8 jobs to do, 2 servers.\n"
    time.sleep(0.6)  # both are at work
    os.kill(one.process.pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert f"{one.url} is given up" in printed
    workers = {json.loads((batch.out / job / "job.json").read_text())["worker"] for job in batch.done()}
    assert workers == {one.url, other.url}
    assert len(batch.done()) == 8


def test_without_any_server_left_it_says_so_and_a_job_that_kills_servers_is_given_up(start, batch):
    batch.table({"3.seed": 1, "3.then": "die"}, {"3.seed": 2})
    printed = batch.run(start(), code=1)
    assert "0 done, 0 failed, 2 left: there is no server any more" in printed
    printed = batch.run(start(), start(), start(), start(), code=1)
    assert "00002 (row 2) failed: its server was lost 3 times." in printed
    assert batch.done() == {"00003"}


def test_no_server_is_told_before_anything_is_made(batch):
    batch.table(*seeds(1))
    printed = batch.run("http://127.0.0.1:9", code=2)
    assert "http://127.0.0.1:9 does not answer: [Errno" in printed
    assert "Start ComfyUI there" in printed
    assert not batch.out.exists()


def test_a_server_without_the_nodes_is_left_out(start, tmp_path):
    batch = Batch(tmp_path, {**WORKFLOW, "4": {"class_type": "Nowhere", "inputs": {}, "_meta": {"title": "My node"}}})
    batch.table(*seeds(1))
    assert 'lacks nodes of the workflow: 4 "My node" (Nowhere). Install their packs' in batch.run(start(), code=2)


def test_a_websocket_that_breaks_costs_no_job(start, batch):
    batch.table(*seeds(1, then="hang up"))
    assert "1 done" in batch.run(start())


def test_mistakes_of_the_table_are_told_first(batch):
    batch.table({"3.sed": 1})
    assert "has no input 'sed'. It has: seed, seconds" in batch.run("http://127.0.0.1:9", code=2)


# The websocket, by the frames of RFC 6455.


def frame(first: int, content: bytes) -> bytes:
    if len(content) < 126:
        return bytes([first, len(content)]) + content
    if len(content) < 1 << 16:
        return bytes([first, 126]) + struct.pack(">H", len(content)) + content
    return bytes([first, 127]) + struct.pack(">Q", len(content)) + content


@pytest.fixture
def connected(monkeypatch):
    """A WebSocket of the client, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(client.socket, "create_connection", lambda *_: ours)

    def answer() -> None:
        head = theirs.recv(4096).decode()
        assert head.startswith("GET /ws?clientId=me HTTP/1.1\r\nHost: host:1\r\n")
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        proof = client.base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    websocket = client.WebSocket("ws://host:1/ws?clientId=me")
    thread.join()
    yield websocket, theirs
    websocket.close()
    theirs.close()


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_messages_of_any_length(connected, length):
    websocket, server = connected
    threading.Thread(target=server.sendall, args=(frame(0x81, b"x" * length),)).start()
    assert websocket.receive(5) == "x" * length


def test_a_message_in_parts_with_a_ping_between_them(connected):
    websocket, server = connected
    server.sendall(
        frame(0x01, "gr\u00fc".encode()[:3]) + frame(0x89, b"still there?") + frame(0x00, "\u00fcn".encode()[1:2])
    )
    server.sendall(frame(0x80, b"n") + frame(0x82, b"picture"))
    assert websocket.receive(5) == "gr\u00fcn"
    assert websocket.receive(5) is None
    pong = server.recv(100)
    mask = pong[2:6]
    assert pong[:2] == bytes([0x8A, 0x80 | 12])
    assert bytes(byte ^ mask[i % 4] for i, byte in enumerate(pong[6:])) == b"still there?"


def test_silence_in_the_middle_of_a_message_loses_nothing(connected):
    websocket, server = connected
    whole = frame(0x01, b"a" * 200) + frame(0x80, b"b" * 10)
    for part in (whole[:1], whole[1:3], whole[3:150], whole[150:204]):
        server.sendall(part)
        with pytest.raises(TimeoutError):
            websocket.receive(0.05)
    server.sendall(whole[204:])
    assert websocket.receive(5) == "a" * 200 + "b" * 10


def test_an_end_is_told(connected):
    websocket, server = connected
    server.sendall(frame(0x88, b""))
    with pytest.raises(ConnectionError, match="closed"):
        websocket.receive(5)
    server.close()
    with pytest.raises(ConnectionError, match="ended"):
        websocket.receive(5)


@pytest.mark.parametrize("head", ["404 Not Found", "101 Switching Protocols\r\nSec-WebSocket-Accept: of somebody else"])
def test_what_is_no_websocket_is_told(monkeypatch, head):
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(client.socket, "create_connection", lambda *_: ours)
    theirs.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode())
    with pytest.raises(ConnectionError, match=r"no websocket but 'HTTP/1\.1 [14]0[14]"):
        client.WebSocket("ws://host:1/ws?clientId=me")


def test_a_node_that_is_missing_is_named_by_its_class():
    """ComfyUI's own message has the title alone, which the user may have written."""
    error = {
        "type": "missing_node_type",
        "message": "Node 'My own name' not found.",
        "details": "Node ID '#3'",
        "extra_info": {"class_type": "NoSuchNode"},
    }
    said = client.refusal({"error": error, "node_errors": {}}, {})
    assert said.startswith("NoSuchNode: Node 'My own name' not found.")
    assert "Install the node pack" in said
