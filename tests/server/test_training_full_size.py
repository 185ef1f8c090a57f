"""Training at full size: SD1.5 and a v2 motion model with random weights, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

MEMORY = 20 * 2**30  # bytes that training may take at most


def peak_memory(pid: int) -> int:
    """Bytes of memory that the process has held at its peak."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("peak memory is read from /proc, which this system has not")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_a_motion_lora_trains_within_20_gb(new_server, host, weights):
    (checkpoint,) = (weights / "checkpoints").iterdir()
    prompt = {
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint.name}},
        "clip": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 8, "color": 0x336699}},
        "latents": {"class_type": "VAEEncode", "inputs": {"pixels": ["clip", 0], "vae": ["checkpoint", 2]}},
        "empty": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["checkpoint", 1]}},
        "motion": {"class_type": "ADE_LoadAnimateDiffModel", "inputs": {"model_name": "random_v2.safetensors"}},
        "apply": {"class_type": "ADE_ApplyAnimateDiffModelSimple", "inputs": {"motion_model": ["motion", 0]}},
        "model": {
            "class_type": "ADE_UseEvolvedSampling",
            "inputs": {"model": ["checkpoint", 0], "beta_schedule": "autoselect", "m_models": ["apply", 0]},
        },
        "train": {
            "class_type": "AnimateDiffTrainMotionLoRA",
            "inputs": {
                "model": ["model", 0],
                "latents": ["latents", 0],
                "positive": ["empty", 0],
                "negative": ["empty", 0],
                "frames": 8,
                "rank": 4,
                "alpha": 4.0,
                "steps": 3,
                "batch": 1,
                "learning_rate": 5e-4,
                "learning_rate_schedule": "constant",
                "optimizer": "AdamW",
                "weight_decay": 0.01,
                "caption_dropout": 0.1,
                "seed": 0,
                "precision": "auto",
                "gradient_checkpointing": True,
                "preview_every": 0,
                "loss": "epsilon",
            },
        },
        "steps": {"class_type": "PreviewAny", "inputs": {"source": ["train", 2]}},
    }
    with new_server(host, models=[weights]) as server:
        entry = server.queue(prompt)
        assert entry["outputs"]["steps"]["text"] == ["3"]
        peak = peak_memory(server.process.pid)
    print(f"peak memory {peak / 2**30:.1f} GB")
    assert peak < MEMORY
