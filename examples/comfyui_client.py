"""A running ComfyUI, from outside: what a client needs of its HTTP interface, with nothing but Python's standard library.

/object_info says which nodes there are, /upload/image takes files, /prompt a prompt, the websocket tells how far it is, /history
what came of it, and /view hands out the files. examples/queue_batch.py makes batches with it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import ssl
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path

ANSWER = 60.0  # seconds until an answer
SILENCE = 5.0  # seconds without news of a prompt, after which the server is asked
BAD_REQUEST = 400
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy: the websocket has none either

# What ComfyUI's checks of a prompt ask of whoever queued it.
ADVICE = {
    "value_not_in_list": "Choose one that the server has, or put the file into its folder.",
    "value_smaller_than_min": "Raise it.",
    "value_bigger_than_max": "Lower it.",
    "invalid_input_type": "Write a value of that type.",
    "required_input_missing": "This server has another version of the node: open the workflow there and export it anew.",
    "bad_linked_input": "A link is [node, number of its output]: export the workflow anew.",
    "return_type_mismatch": "This output does not fit there: mend it in ComfyUI and export the workflow anew.",
    "missing_node_type": "Install the node pack that it comes from on this server, and restart it.",
    "prompt_no_outputs": "Put a node that saves something at the end, such as Save Animated WEBP, and export it anew.",
}


class Lost(Exception):
    """The server gives no answer, or has forgotten the prompt: another server may do the job, or this one once more."""


class Failed(Exception):
    """The server refuses, or the prompt failed; the message says why."""


class WebSocket:
    """Listens to a ``ws://`` or ``wss://`` URL: as much of RFC 6455 as that takes. Raises OSError."""

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "wss"
        self.socket = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), ANSWER)
        self.received = bytearray()
        self.kind, self.message = 0, b""
        try:
            if secure:
                self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
            self._shake_hands(parts)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        self.socket.close()

    def _shake_hands(self, parts: urllib.parse.SplitResult) -> None:
        key = base64.b64encode(os.urandom(16))
        self.socket.sendall(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.received:
            self._receive_more()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        if not head.startswith(b"HTTP/1.1 101") or proof not in head:
            raise ConnectionError(f"no websocket but '{head.splitlines()[0].decode(errors='replace')}'")

    def receive(self, timeout: float) -> str | None:
        """The next message; None for one that is no text, as previews are. Raises TimeoutError, after which one may go on."""
        self.socket.settimeout(timeout)
        while True:
            final, kind, content = self._next_frame()
            if kind == 0x8:
                raise ConnectionError("the server closed the websocket")
            if kind == 0x9:
                self._answer_ping(content)
            elif kind < 0x8:  # 0: it goes on with the message that the frames before it began
                self.kind = kind or self.kind
                self.message = content if kind else self.message + content
                if final:
                    return self.message.decode() if self.kind == 1 else None

    def _next_frame(self) -> tuple[bool, int, bytes]:
        """(whether it is the last of its message, its kind, its content). Nothing is lost if it stops in the middle."""
        head = self._peek(2)
        length, begin = head[1] & 0x7F, 2
        if length == 126:
            length, begin = *struct.unpack_from(">H", self._peek(4), 2), 4
        elif length == 127:
            length, begin = *struct.unpack_from(">Q", self._peek(10), 2), 10
        content = bytes(self._peek(begin + length)[begin:])
        del self.received[: begin + length]
        return bool(head[0] & 0x80), head[0] & 0x0F, content

    def _peek(self, length: int) -> bytearray:
        while len(self.received) < length:
            self._receive_more()
        return self.received[:length]

    def _receive_more(self) -> None:
        if not (more := self.socket.recv(1 << 16)):
            raise ConnectionError("the connection ended")
        self.received += more

    def _answer_ping(self, content: bytes) -> None:
        mask = os.urandom(4)  # what clients send is masked
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
        self.socket.sendall(bytes([0x8A, 0x80 | len(content)]) + mask + masked)


class Server:
    """A ComfyUI at ``url``. All that is asked of it raises Lost where no answer comes, and Failed where it refuses."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.client = (
            uuid.uuid4().hex
        )  # events of the prompts that this client queues come to the websocket of its name
        self.sent: set[str] = set()
        self.under_way: str | None = None
        self.stopped = False

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        try:
            with OPENER.open(request, timeout=ANSWER) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if path == "/prompt" and error.code == BAD_REQUEST:
                return error.read()  # says what is wrong with the prompt
            raise Failed(f"{self.url}{path} answers '{error.code} {error.reason}'.") from None
        except (OSError, HTTPException) as error:
            raise Lost(f"{self.url} does not answer: {getattr(error, 'reason', error)}.") from None

    def get(self, path: str, body: dict | None = None) -> dict:
        """The JSON that is there; with ``body`` it is posted."""
        answer = self.ask(path, None if body is None else json.dumps(body).encode())
        try:
            return json.loads(answer)
        except ValueError:
            raise Failed(f"{self.url}{path} answers, but not as ComfyUI does.") from None

    def interface(self, names: Iterable[str]) -> dict[str, dict]:
        """What the server tells of these kinds of nodes; those that it does not know are left out."""
        found = {}
        for name in names:
            found |= self.get(f"/object_info/{urllib.parse.quote(name, safe='')}")
        return found

    def upload(self, path: Path, name: str) -> None:
        """Put a file into the server's input folder under this name."""
        if name in self.sent:
            return
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        tail = f'\r\n--{edge}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{edge}--\r\n'
        body = head.encode() + path.read_bytes() + tail.encode()
        self.ask("/upload/image", body, f"multipart/form-data; boundary={edge}")
        self.sent.add(name)

    def run(self, prompt: dict, tell: Callable[[str], None]) -> dict:
        """Run a prompt to its end, and ``tell`` how far it is. Returns its entry in the history."""
        events = self._events()  # before it is queued, so that no event is missed
        try:
            self.under_way = self._queue(prompt)
            if self.stopped:  # meanwhile
                self.stop()
            while True:
                try:
                    if not self._may_have_ended(events, prompt, tell):
                        continue
                except OSError:  # a proxy in between lost patience, or the server is gone
                    events.close()
                    events = self._events()
                # The queue first: from there prompts go into the history.
                waits = any(item[1] == self.under_way for items in self.get("/queue").values() for item in items)
                if entry := self.get(f"/history/{self.under_way}").get(self.under_way):
                    return entry
                if not waits:
                    raise Lost(f"{self.url} has forgotten the prompt: it was restarted, or somebody removed it.")
        finally:
            self.under_way = None
            events.close()

    def _events(self) -> WebSocket:
        try:
            return WebSocket(f"ws{self.url.removeprefix('http')}/ws?clientId={self.client}")
        except OSError as error:
            raise Lost(f"{self.url} has no websocket for us: {error}.") from None

    def _queue(self, prompt: dict) -> str:
        """Returns the id of the prompt."""
        answer = self.get("/prompt", {"prompt": prompt, "client_id": self.client})
        if answer.get("error") or answer.get("node_errors"):
            if "prompt_id" in answer:  # ComfyUI would run what it finds right, and leave out the rest
                self._cancel(answer["prompt_id"])
            raise Failed(refusal(answer, prompt))
        return answer["prompt_id"]

    def _may_have_ended(self, events: WebSocket, prompt: dict, tell: Callable[[str], None]) -> bool:
        """Wait for the next event. Whether it is time to ask for the result. Raises OSError."""
        try:
            event = json.loads(events.receive(SILENCE) or "{}")
        except TimeoutError:
            return True
        data = event.get("data") or {}
        if data.get("prompt_id") != self.under_way:
            return False
        if event["type"] == "progress":
            tell(f"{title(data.get('node'), prompt)} {data['value']}/{data['max']}")
        elif event["type"] == "executing" and data.get("node") is not None:
            tell(title(data["node"], prompt))
        return event["type"] == "executing" and data.get("node") is None

    def stop(self) -> None:
        """Stop the prompt that is under way, or the next one. May be called from another thread."""
        self.stopped = True
        if self.under_way:
            with contextlib.suppress(Lost, Failed):
                self._cancel(self.under_way)

    def _cancel(self, prompt_id: str) -> None:
        self.ask("/queue", json.dumps({"delete": [prompt_id]}).encode())
        self.ask("/interrupt", json.dumps({"prompt_id": prompt_id}).encode())

    def download(self, item: dict) -> bytes:
        """A file that the history names."""
        return self.ask(f"/view?{urllib.parse.urlencode(item)}")

    def comes_back(self, patience: float) -> bool:
        """Wait up to ``patience`` seconds for a server that was lost: services are started anew."""
        self.sent.clear()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(min(1.0, patience))
            with contextlib.suppress(Lost, Failed):
                self.ask("/system_stats")
                return True
        return False


def title(node: str | None, prompt: dict) -> str:
    """What the user knows a node by. The id of one that another node made begins with the id of that."""
    content = prompt.get(node) or prompt.get(str(node).partition(".")[0]) or {}
    return content.get("_meta", {}).get("title") or content.get("class_type") or str(node)


def refusal(answer: dict, prompt: dict) -> str:
    """A line for each thing that ComfyUI finds wrong with a prompt: the node, what, and what to do."""
    errors = [
        (f'Node {node} "{title(node, prompt)}" ({found["class_type"]}): ', error)
        for node, found in (answer.get("node_errors") or {}).items()
        for error in found["errors"]
    ]
    if not errors:
        # The message names a missing node by its title alone, which the user may have written.
        kind = answer["error"].get("extra_info", {}).get("class_type")
        errors = [(f"{kind}: " if kind else "", answer["error"])]
    return "\n".join(
        f"{where}{': '.join(filter(None, (error['message'], error['details'])))}. {ADVICE.get(error['type'], '')}".strip()
        for where, error in errors
    )
