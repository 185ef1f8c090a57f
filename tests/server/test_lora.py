"""MotionLoRAs in a real server: file lists, what is saved, and errors as users see them."""

import pytest


@pytest.fixture
def prompt() -> dict:
    """A MotionLoRA, scheduled, saved under a new name; nothing is sampled."""
    return {
        "load": {
            "class_type": "ADE_AnimateDiffLoRALoader",
            "inputs": {"name": "random_motion_lora.safetensors", "strength": 0.8},
        },
        "schedule": {
            "class_type": "AnimateDiffScheduleMotionLoRA",
            "inputs": {
                "motion_lora": ["load", 0],
                "strengths": "0.0: 1.0, 0.5: 0.3",
                "interpolation": "linear",
                "frame_strengths": "",
            },
        },
        "save": {
            "class_type": "AnimateDiffSaveMotionLoRA",
            "inputs": {"motion_lora": ["schedule", 0], "filename_prefix": "camera/pan_right", "dtype": "float16"},
        },
    }


def names(server) -> list[str]:
    kind, settings = server.object_info("ADE_AnimateDiffLoRALoader")["input"]["required"]["name"]
    return kind if isinstance(kind, list) else settings["options"]


def test_a_saved_lora_appears_in_the_loaders_list(server, prompt):
    shown = server.queue(prompt)["outputs"]["save"]
    text = shown["text"][0]
    [saved] = [name for name in names(server) if "pan_right" in name]
    assert saved.replace("\\", "/") == "camera/pan_right_00001_.safetensors"
    assert text.startswith("Saved ")
    assert text.endswith("pan_right_00001_.safetensors")
    named = {"filename": "pan_right_00001_.safetensors", "subfolder": "camera", "type": "animatediff_motion_lora"}
    assert shown["models"] == [named]
    assert saved in server.get(f"/models/{named['type']}")
    prompt["load"]["inputs"]["name"] = saved
    server.queue(prompt)
    assert len([name for name in names(server) if "pan_right" in name]) == 2


def test_an_error_in_a_schedule_points_at_the_character(server, prompt):
    prompt["schedule"]["inputs"]["strengths"] = "0.0: 1.0, 0.5; 0.3"
    with pytest.raises(
        RuntimeError, match=r"strengths, line 1, character 14: expected ':' and a strength behind 0\.5, found ';'"
    ):
        server.queue(prompt)


def test_nothing_is_saved_outside_the_models_folder(server, prompt):
    prompt["save"]["inputs"]["filename_prefix"] = "../../elsewhere"
    with pytest.raises(RuntimeError, match=r"leads out of the folder .*animatediff_motion_lora"):
        server.queue(prompt)
