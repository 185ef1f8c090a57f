"""Show Settings draws whatever it is given."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def node(pack):
    """`node("ADE_MultivalDynamic", float_val=1.2)`: what a node gives."""
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}

    def run(node_id: str, **inputs):
        return nodes[node_id].execute(**inputs).result[0]

    return run


@pytest.fixture
def loras(pack):
    """MotionLoRAs, one of constant strength and one that fades out over the run and over the frames."""
    motion_lora = pack.submodule("lora.motion_lora")
    pairs = {"layer": (torch.zeros(4, 8), torch.zeros(8, 4))}
    return tuple(motion_lora.AppliedMotionLora(motion_lora.MotionLora(name, pairs)) for name in ("left", "zoom"))


@pytest.fixture
def settings(node, loras):
    """What can be shown, and each changed in a way that must be seen."""
    mask = torch.linspace(0, 1, 64).view(1, 8, 8)
    keyframe = {"start_percent": 0.5, "inherit_missing": True, "guarantee_steps": 1}
    poses = {"speed": 1.0, "frame_length": 16}
    schedule = {"frame_strengths": "", "interpolation": "hold"}
    return {
        "windows": [
            node("ADE_StandardStaticContextOptions", context_length=16, context_overlap=overlap) for overlap in (4, 8)
        ],
        "keyframes": [node("ADE_AnimateDiffKeyframe", **keyframe, scale_multival=scale) for scale in (1.2, 0.5)],
        "cfg": [node("ADE_CustomCFG", cfg_multival=value) for value in (3.0, 7.0)],
        "loras": [
            node("AnimateDiffScheduleMotionLoRA", motion_lora=loras, strengths=text, **schedule)
            for text in ("0: 1, 0.5: 0.3", "0: 1, 0.5: 0.8")
        ],
        "loras of which one fades over the frames": [
            node(
                "AnimateDiffScheduleMotionLoRA",
                motion_lora=loras,
                strengths="0: 1",
                **{**schedule, "frame_strengths": text},
            )
            for text in ("0: 1, 15: 0.2", "0: 1, 15: 0.9")
        ],
        "poses": [node("ADE_CameraPoseBasic", motion_type=kind, **poses) for kind in ("Zoom In", "Pan Left")],
        "sigmas": [
            node("ADE_SigmaSchedule", beta_schedule=name)
            for name in ("sqrt_linear (AnimateDiff)", "linear (AnimateDiff-SDXL)")
        ],
        "numbers": [[0.1, 0.5, 1.0], [0.1, 0.9, 1.0]],
        "one number": [1.0, 0.3],
        "multival of a list": [node("ADE_MultivalDynamicFloats", floats=values) for values in ([1.0, 0.5], [1.0, 0.2])],
        "multival of a mask": [
            node("ADE_MultivalScaledMask", min_float_val=0.0, max_float_val=1.0, mask=mask, scaling=scaling)
            for mask, scaling in ((mask, "absolute"), (mask.flip(1), "absolute"))
        ],
    }


KINDS = (
    "windows",
    "keyframes",
    "cfg",
    "loras",
    "loras of which one fades over the frames",
    "poses",
    "sigmas",
    "numbers",
    "one number",
    "multival of a list",
    "multival of a mask",
)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_drawn_and_a_change_is_seen(node, settings, kind):
    assert set(KINDS) == set(settings)
    first, other = (node("AnimateDiffShowSettings", settings=value, frames=40) for value in settings[kind])
    assert first.shape[0] == 1
    assert first.shape[3] == 3
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert first.shape != other.shape or not torch.equal(first, other)


def test_the_picture_is_shown_on_the_node(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}
    output = nodes["AnimateDiffShowSettings"].execute(settings=0.5, frames=16)
    (shown,) = output.ui.as_dict()["images"]
    assert shown["type"] == "temp"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "got an empty chain or list.*Connect settings that hold something"),
        ([], "got an empty chain or list"),
        ("text", "got a text in place of context options, or keyframes.*Connect Context Options: Standard Static, or"),
    ],
)
def test_something_else_is_told(node, settings, message):
    with pytest.raises(ValueError, match=message):
        node("AnimateDiffShowSettings", settings=settings, frames=16)
