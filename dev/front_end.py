"""What a front end gets of a prompt through the websocket of a server. Needs aiohttp, as ComfyUI does.

previews = seen(server.url, prompt, preview_method="latent2rgb")
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import NamedTuple

import aiohttp

PREVIEW = 4  # the kind of a message: a preview, and which node it is of
CLIENT = "front-end"
ENDS = ("execution_success", "execution_error", "execution_interrupted")


class Preview(NamedTuple):
    node: str
    image_type: str
    data: bytes


def seen(url: str, prompt: dict, timeout: float = 1800, **settings: str) -> list[Preview]:
    """Queue a prompt with ``settings`` of the front end, and wait for its end. Returns the previews that came, in order."""
    return asyncio.run(asyncio.wait_for(_seen(url, prompt, settings), timeout))


async def _seen(url: str, prompt: dict, settings: dict) -> list[Preview]:
    found = []
    async with aiohttp.ClientSession(url) as session, session.ws_connect(f"/ws?clientId={CLIENT}") as socket:
        await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        queued = {"prompt": prompt, "client_id": CLIENT, "extra_data": settings}
        async with session.post("/prompt", json=queued) as answer:
            if not answer.ok:
                raise RuntimeError(await answer.text())
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                kind, length = struct.unpack_from(">II", message.data)
                if kind == PREVIEW:
                    told = json.loads(message.data[8 : 8 + length])
                    found.append(Preview(told["node_id"], told["image_type"], message.data[8 + length :]))
            elif json.loads(message.data)["type"] in ENDS:
                break
    return found
