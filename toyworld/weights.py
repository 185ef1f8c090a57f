"""The shipped weights, and the model files that ComfyUI loads made from them."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import checkpoint, motion, prompts

SHIPPED = Path(__file__).parent / "weights"
SCALE = ".scale"
# Of each UNet the autoencoder that it goes with, and the name of the checkpoint.
UNETS = {
    "stills": ("autoencoder", "toyworld"),
    "personalised": ("autoencoder", "toyworld-personalised"),
    "landscapes-stills": ("landscapes-autoencoder", "toyworld-landscapes"),
    "landscapes-personalised": ("landscapes-autoencoder", "toyworld-landscapes-personalised"),
}


def save_live(
    name: str, tensors: dict[str, torch.Tensor], bytes_per_weight: int = 2, notes: dict[str, str] | None = None
) -> None:
    """Keep ``tensors`` in the repository, matrices as float16 or as one byte per weight with a scale for each row.

    ``notes`` are kept as the file's metadata.
    """
    SHIPPED.mkdir(exist_ok=True)
    kept = {}
    for key, value in tensors.items():
        if bytes_per_weight == 1 and value.ndim > 1:
            scale = value.flatten(1).abs().amax(1).clamp_min(1e-8) / 127
            kept[key] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
            kept[f"{key}{SCALE}"] = scale.float()
        else:
            kept[key] = value.half()
    save_file({key: value.contiguous() for key, value in kept.items()}, SHIPPED / f"{name}.safetensors", notes)


def load_live(name: str) -> dict[str, torch.Tensor]:
    """What ``save_live`` has kept, float32."""
    kept = load_file(SHIPPED / f"{name}.safetensors")
    return {
        key: value * kept[f"{key}{SCALE}"].view(-1, *[1] * (value.ndim - 1))
        if f"{key}{SCALE}" in kept
        else value.float()
        for key, value in kept.items()
        if not key.endswith(SCALE)
    }


def expand_checkpoints(models: Path) -> None:
    """Write those checkpoints into a ``models`` folder whose UNets are shipped, 0.3 GB each."""
    for live, (autoencoder, name) in UNETS.items():
        if (SHIPPED / f"{live}.safetensors").exists():
            tensors = checkpoint.expand(load_live(live), load_live(autoencoder))
            _save(tensors, models / "checkpoints" / f"{name}.safetensors")


def expand(models: Path) -> None:
    """Write checkpoints, motion models and LoRAs into the folders of a ``models`` folder."""
    expand_checkpoints(models)
    for source in sorted(SHIPPED.glob("*motion*.safetensors")):
        _save(motion.full(load_live(source.stem)), models / "animatediff_models" / model_file(source.stem))
    loras = {
        source: models / "animatediff_motion_lora" / source.name.replace("lora", "toyworld", 1)
        for source in sorted(SHIPPED.glob("lora-*.safetensors"))
    }
    loras[SHIPPED / "adapter.safetensors"] = models / "loras" / prompts.ADAPTER
    for source, file in loras.items():
        _save({key: value.half() for key, value in load_live(source.stem).items()}, file, notes_of(source))


def model_file(motion_model: str) -> str:
    """What a shipped motion model is called among ComfyUI's models: motion-no-adapter becomes toyworld-no-adapter, and so on."""
    return "-".join(part for part in ("toyworld", *motion_model.split("-")) if part != "motion") + ".safetensors"


def notes_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.metadata()


def _save(tensors: dict[str, torch.Tensor], path: Path, notes: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in tensors.items()}, partial, notes)
    os.replace(partial, path)
