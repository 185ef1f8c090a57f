"""Training through API prompts in a real server, on the toy world."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import pytest
from animatediff_dev_examples import in_toyworld
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
CLIPS = 3
STARTED = "AnimateDiff training: step 1 of"
SMALL = {"folder": "clips", "steps": 2, "preview_every": 2, "rank": 4, "alpha": 4.0, "batch": 1}


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models, toyworld, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(toyworld_models, models, dirs_exist_ok=True, copy_function=lambda a, b: Path(b).symlink_to(a))
    with new_server(host, models=[models]) as server:
        toyworld("videos").write_clips(server.run / "input" / "clips", CLIPS, seed=0)
        yield server


def example(name: str, **changes) -> dict:
    """An example workflow on the toy world, small and short."""
    return in_toyworld(name, **{**SMALL, **changes})


def newest(server, folder: str) -> Path:
    return max((server.run / "models" / folder).glob("*.safetensors"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize(
    ("name", "folder", "tensors", "notes"),
    [
        (
            "train_motion_lora",
            "animatediff_motion_lora",
            2 * 4 * 2 * 4,
            {"base": "toyworld", "rank": "4", "objective": "epsilon"},
        ),
        ("train_domain_adapter", "loras", 2 * 4 * 2 * 4, {"base": "SD1.5", "rank": "4"}),
        ("train_motion_module", "animatediff_models", 3 * 28, {"base": "SD1.5", "version": "v3"}),
    ],
)
def test_the_example_trains_and_saves(server, name, folder, tensors, notes):
    entry = server.queue(example(name))
    (graph,) = [file for file in server.outputs(entry) if file.suffix == ".png"]
    assert graph.stat().st_size > 0
    with safe_open(newest(server, folder), "pt") as saved:
        assert len(list(saved.keys())) == tensors
        metadata = saved.metadata()
    for note, value in {**notes, "steps": "2"}.items():
        assert metadata[f"animatediff.{note}"] == value
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{metadata["animatediff.pack_version"]}"\n' in pyproject


def test_the_example_with_a_motion_lora_samples(server):
    (file,) = server.outputs(server.queue(example("use_motion_lora", batch_size=4)))
    assert file.suffix == ".webp"


def test_what_was_trained_is_used_at_once_and_after_loading(server):
    """The MOTION_LORA of the training node and the same read back from its file give the same clip."""
    prompt = example("train_motion_lora", steps=4, learning_rate=0.01)
    prompt["save"]["inputs"]["dtype"] = "float32"
    prompt |= {
        "trained": {
            "class_type": "ADE_ApplyAnimateDiffModelSimple",
            "inputs": {"motion_model": ["motion_model", 0], "motion_lora": ["train", 0]},
        }
    }
    prompt |= sampling("trained", "at-once")
    at_once = server.outputs(server.queue(prompt))
    use = {name: prompt[name] for name in ("checkpoint", "empty", "motion_model")}
    use |= {
        "lora": {
            "class_type": "ADE_AnimateDiffLoRALoader",
            "inputs": {"name": newest(server, "animatediff_motion_lora").name, "strength": 1.0},
        },
        "loaded": {
            "class_type": "ADE_ApplyAnimateDiffModelSimple",
            "inputs": {"motion_model": ["motion_model", 0], "motion_lora": ["lora", 0]},
        },
        "plain": {"class_type": "ADE_ApplyAnimateDiffModelSimple", "inputs": {"motion_model": ["motion_model", 0]}},
    }
    loaded = server.outputs(server.queue(use | sampling("loaded", "loaded")))
    plain = server.outputs(server.queue(use | sampling("plain", "plain")))
    trained_latent, loaded_latent, plain_latent = (latent(files) for files in (at_once, loaded, plain))
    assert (trained_latent - plain_latent).abs().max() > 1e-3
    assert (trained_latent - loaded_latent).abs().max() < 1e-4


def sampling(applied: str, prefix: str) -> dict:
    return {
        "animated": {
            "class_type": "ADE_UseEvolvedSampling",
            "inputs": {"model": ["checkpoint", 0], "beta_schedule": "autoselect", "m_models": [applied, 0]},
        },
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 4}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["animated", 0],
                "positive": ["empty", 0],
                "negative": ["empty", 0],
                "latent_image": ["latent", 0],
                "seed": 1,
                "steps": 2,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "save_latent": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": prefix}},
    }


def latent(files: list[Path]):
    from safetensors.torch import load_file

    (file,) = [file for file in files if file.suffix == ".latent"]
    return load_file(file)["latent_tensor"]


def train_and_stop(server, prompt: dict) -> Path:
    """Queue a training, stop it after its first steps; returns the file that was saved."""
    before = server.log().count(STARTED)
    prompt_id = server.submit(prompt)
    while server.log().count(STARTED) == before:
        time.sleep(0.2)
    server.interrupt()
    server.wait(prompt_id)
    return newest(server, "animatediff_motion_lora")


def test_stopping_saves_what_was_trained_and_the_next_run_trains_again(server):
    prompt = example("train_motion_lora", steps=1000, preview_every=0, seed=7)
    saved = train_and_stop(server, prompt)
    with safe_open(saved, "pt") as file:
        assert 1 <= int(file.metadata()["animatediff.steps"]) < 1000
    assert train_and_stop(server, prompt) != saved


def test_too_short_clips_are_told(server):
    from animatediff_dev_server import PromptError

    with pytest.raises(PromptError, match="Clip 1 has 16 frames, but training takes 24 at a time"):
        server.queue(example("train_motion_lora", frames=24))


def test_a_folder_of_videos_is_trained_on_and_the_second_start_encodes_nothing(server):
    """The example with the node that prepares clips; a video more is noticed, and it alone is encoded."""

    def told(**changes) -> str:
        prompt = example("train_from_video_folder", frame_rate=0.0, stride=1, frames=16, **changes)
        prompt["told"] = {"class_type": "PreviewAny", "inputs": {"source": ["clips", 4]}}
        entry = server.queue(prompt)
        assert any(file.name.startswith("ComfyUI_temp") for file in server.outputs(entry))  # the contact sheet
        return entry["outputs"]["told"]["text"][0]

    assert "0 of 3 clips were kept" in told()
    saved = newest(server, "animatediff_motion_lora")
    assert "3 of 3 clips were kept" in told(default_caption="another")
    folder = server.run / "input" / "clips"
    try:
        shutil.copy(folder / "0000.avi", folder / "again.avi")
        assert "3 of 4 clips were kept" in told(default_caption="another")
        assert newest(server, "animatediff_motion_lora") != saved
    finally:
        (folder / "again.avi").unlink()


def test_the_example_with_checkpoints_goes_on_where_it_was(server):
    """Queued again with more steps: options, held-out clips and checkpoints in one chain."""
    folder = server.run / "models" / "animatediff_motion_lora"
    small = {"frame_rate": 0.0, "stride": 1, "frames": 16, "warmup_steps": 1, "every": 2}
    for steps in (2, 4):
        server.queue(example("train_with_checkpoints", **{**SMALL, **small, "steps": steps}))
        states = sorted(path.name for path in folder.glob("my_motion_training_*.state"))
        assert states == [f"my_motion_training_00001_step{step:06}.state" for step in range(2, steps + 1, 2)]
        assert (folder / f"my_motion_training_00001_step{steps:06}.webp").exists()
    with open(folder / "my_motion_training_00001_log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["validation_loss"]) for row in rows] == [False, True, False, True]
