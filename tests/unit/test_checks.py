"""What a sampler run refuses before anything is computed."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def checks(pack):
    return pack.submodule("sampling.checks")


def test_a_clip_of_pictures_passes(checks):
    checks.check_latents(torch.zeros(16, 4, 8, 8))
    checks.check_latents(torch.zeros(1, 16, 8, 8))


@pytest.mark.parametrize("shape", [(1, 16, 21, 60, 104), (1, 8, 256), (4, 8)])
def test_latents_of_video_models_are_refused_in_words(checks, shape):
    with pytest.raises(checks.UnsupportedLatents, match=r"that of a video model's.*Empty Latent Image") as error:
        checks.check_latents(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_latents_of_video_and_sound_are_refused_in_words(checks):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this ComfyUI has no latents of video and sound")
    with pytest.raises(checks.UnsupportedLatents, match="that of a video model's"):
        checks.check_latents(nested.NestedTensor([torch.zeros(1, 16, 8, 8), torch.zeros(1, 8, 64)]))


@pytest.mark.parametrize("shape", [(0, 4, 8, 8), (4, 4, 0, 8), (4, 4, 8, 0)])
def test_latents_with_nothing_in_them_are_refused(checks, shape):
    with pytest.raises(checks.UnsupportedLatents, match="There is nothing to sample"):
        checks.check_latents(torch.zeros(shape))


@pytest.mark.parametrize("node_id", ["ADE_PromptSchedulingLatents", "ADE_ValueSchedulingLatents"])
def test_schedules_do_not_take_the_batch_of_a_video_for_its_frames(pack, checks, node_id):
    node = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}[node_id]
    texts = {"prompts": '"0": "a"', "clip": type("Clip", (), {"tokenize": 0, "encode_from_tokens": 0})()}
    texts = texts if "Prompt" in node_id else {"values": "0 = 1.0"}
    with pytest.raises(checks.UnsupportedLatents, match="that of a video model's"):
        node.execute(latent={"samples": torch.zeros(1, 16, 4, 8, 8)}, **texts)
