"""What comes out of the websocket while a clip is sampled, and while a MotionLoRA is trained: previews that move."""

from __future__ import annotations

import io

import pytest
from animatediff_dev_examples import in_toyworld
from animatediff_dev_front_end import seen
from PIL import Image

FRAMES = 16


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models, toyworld):
    with new_server(host, models=[toyworld_models], extra_args=("--preview-method", "auto")) as server:
        toyworld("videos").write_clips(server.run / "input" / "clips", 3, seed=0)
        yield server


def pictures(previews: list) -> list[Image.Image]:
    assert {preview.image_type for preview in previews} == {"image/jpeg"}
    return [Image.open(io.BytesIO(preview.data)).convert("RGB") for preview in previews]


def test_the_clip_moves_on_the_sampler(server):
    steps = 8
    previews = seen(server.url, in_toyworld("txt2vid", batch_size=FRAMES, steps=steps))
    assert {preview.node for preview in previews} == {"sampler"}
    ours = [picture.tobytes() for picture in pictures(previews) if picture.size == (256, 256)]
    assert len(previews) - len(ours) == steps  # the host's own, of the first frame
    assert len(set(ours)) > 2 * steps  # it moves between steps as well


@pytest.mark.long
def test_losses_and_the_preview_move_on_the_training(server):
    small = {"folder": "clips", "rank": 4, "alpha": 4.0, "batch": 1, "frames": 4, "steps": 8, "preview_every": 2}
    prompt = in_toyworld("train_motion_lora", **small)
    (train,) = (name for name, node in prompt.items() if node["class_type"] == "AnimateDiffTrainMotionLoRA")
    shown = pictures([preview for preview in seen(server.url, prompt) if preview.node == train])
    assert {max(picture.size) for picture in shown} == {480}
    assert len({picture.size for picture in shown}) == 2  # without and with a clip
    assert len({picture.tobytes() for picture in shown}) > 4
