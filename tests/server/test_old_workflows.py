"""Prompts as old workflow files make them, in a real server: removed inputs, formats that are on no list."""

from __future__ import annotations

import pytest
from animatediff_dev_server import PromptError


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        yield server


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def clip(**combine) -> dict:
    values = {"frame_rate": 8, "loop_count": 0, "filename_prefix": "AnimateDiff", "format": "image/gif", **combine}
    return {
        "images": node("EmptyImage", width=64, height=64, batch_size=4, color=255),
        "clip": node("ADE_AnimateDiffCombine", images=["images", 0], pingpong=False, save_image=True, **values),
    }


@pytest.mark.parametrize(("format", "extension"), [("image/gif", "gif"), ("video/h264-mp4", "mp4")])
def test_combine_takes_formats_of_old_files_and_shows_what_it_wrote(server, format, extension):
    entry = server.queue(clip(format=format, filename_prefix=extension))
    shown = entry["outputs"]["clip"]
    assert shown["gifs"][0]["filename"] == f"{extension}_00001_.{extension}"
    # the front end takes a GIF for a video: what it shows is a WebP
    played = "AnimateDiff_preview_00001_.webp" if extension == "gif" else f"{extension}_00001_.{extension}"
    assert [item["filename"] for item in shown["images"]] == [played]
    assert all(path.stat().st_size > 0 for path in server.outputs(entry))
    assert (server.run / "output" / f"{extension}_00001_.png").is_file()


def test_combine_refuses_what_is_no_format(server):
    with pytest.raises(PromptError, match="is no format of this node"):
        server.queue(clip(format="lerp (normal)"))


OLD = {
    # output types of stored files do not matter to the server
    "settings": node("ADE_AnimateDiffModelSettingsSimple", motion_pe_stretch=4),
    "model": node(
        "CheckpointLoaderSimpleWithNoiseSelect", ckpt_name="toyworld.safetensors", beta_schedule="autoselect"
    ),
    "animated": node(
        "ADE_AnimateDiffLoaderWithContext",
        model=["model", 0],
        model_name="toyworld.safetensors",
        beta_schedule="autoselect",
        motion_scale=1.0,
        apply_v2_models_properly=0,  # as a file had it whose widgets were other ones
        motion_model_settings=["settings", 0],
    ),
    "positive": node("CLIPTextEncode", clip=["model", 1], text=""),
    "latent": node("ADE_EmptyLatentImageLarge", width=64, height=64, batch_size=4),
    "sampled": node(
        "KSampler",
        model=["animated", 0],
        positive=["positive", 0],
        negative=["positive", 0],
        latent_image=["latent", 0],
        seed=1,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    ),
    "still": node("ADE_AnimateDiffUnload", model=["animated", 0]),
    "sampled_still": node(
        "KSampler",
        model=["still", 0],
        positive=["positive", 0],
        negative=["positive", 0],
        latent_image=["sampled", 0],
        seed=1,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=0.3,
    ),
    "decoded": node("VAEDecode", samples=["sampled_still", 0], vae=["model", 2]),
    "saved": node("SaveImage", images=["decoded", 0], filename_prefix="old"),
}


def test_an_old_workflow_runs_with_settings_at_the_input_that_is_gone(server):
    entry = server.queue(OLD)
    assert len(server.outputs(entry)) == 4
    assert "toyworld: AnimateDiff" in server.log()
    # stretched by the settings that arrived at the removed input
    assert "up to 36 frames" in server.log()
