"""What comes out of the websocket while a clip is sampled, and while a MotionLoRA is trained: previews that move."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from contextlib import aclosing
from typing import NamedTuple

import aiohttp
import pytest
from animatediff_dev_examples import in_toyworld
from PIL import Image

FRAMES = 16
WITH_METADATA = 4


class Preview(NamedTuple):
    node: str
    picture: Image.Image


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models, toyworld):
    with new_server(host, models=[toyworld_models], extra_args=("--preview-method", "auto")) as server:
        toyworld("videos").write_clips(server.run / "input" / "clips", 3, seed=0)
        yield server


@pytest.fixture
def previews(server):
    """`previews(prompt)`: all that a front end gets of previews until the prompt is done."""

    async def messages(prompt: dict):
        async with aiohttp.ClientSession(server.url) as session, session.ws_connect("/ws?clientId=test") as socket:
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            answer = await session.post("/prompt", json={"prompt": prompt, "client_id": "test"})
            assert answer.ok, await answer.text()
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    yield message.data
                elif json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                    break

    async def seen(prompt: dict) -> list[Preview]:
        found = []
        async with aclosing(messages(prompt)) as received:
            async for data in received:
                kind, length = struct.unpack_from(">II", data)
                if kind == WITH_METADATA:
                    told = json.loads(data[8 : 8 + length])
                    assert told["image_type"] == "image/jpeg"
                    picture = Image.open(io.BytesIO(data[8 + length :]))
                    found.append(Preview(told["node_id"], picture.convert("RGB")))
        return found

    return lambda prompt: asyncio.run(asyncio.wait_for(seen(prompt), 300))


def test_the_clip_moves_on_the_sampler(previews):
    prompt = in_toyworld("txt2vid", batch_size=FRAMES, steps=40)
    found = previews(prompt)
    assert {preview.node for preview in found} == {"sampler"}
    ours = [preview.picture for preview in found if preview.picture.size == (256, 256)]
    # the host's own, one of each step: the first frame
    assert len(found) - len(ours) == 40
    assert len({picture.tobytes() for picture in ours}) > FRAMES
    differing = sum(a.tobytes() != b.tobytes() for a, b in zip(ours, ours[1:], strict=False))
    assert differing >= FRAMES


def test_losses_and_the_preview_move_on_the_training(previews):
    small = {"folder": "clips", "rank": 4, "alpha": 4.0, "batch": 1, "steps": 12, "preview_every": 4}
    prompt = in_toyworld("train_motion_lora", **small)
    (train,) = (name for name, node in prompt.items() if node["class_type"] == "AnimateDiffTrainMotionLoRA")
    pictures = [preview.picture for preview in previews(prompt) if preview.node == train]
    assert {max(picture.size) for picture in pictures} == {480}
    assert len({picture.size for picture in pictures}) == 2  # without and with a clip
    assert len({picture.tobytes() for picture in pictures}) > 4
