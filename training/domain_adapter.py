"""Training domain adapters: what single frames of the training videos look like (arXiv 2307.04725, section 4.1).

The adapter is a LoRA on the UNet's spatial attention. A motion module trained with it switched on need not learn the
videos' watermarks and compression; at inference the adapter is left out.
"""

import torch
from comfy.ldm.modules.attention import CrossAttention
from torch import nn

from ..host import folders
from ..host import training as host
from ..lora.domain_adapter import lora_model, save_lora_model
from ..motion_models.files.saving import METADATA_PREFIX
from ..motion_models.network.injection import check_unet
from .checkpoints import Checkpoints
from .clips import TrainingData
from .low_rank import LowRankLinear, new_pairs, parameters, ranks_of
from .record import TrainingRecord
from .settings import TrainingSettings
from .trainer import train
from .unet import TrainingUNet

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def train_domain_adapter(
    model,
    latents: list[dict],
    positive: list[host.Conditioning],
    negative: host.Conditioning,
    settings: TrainingSettings,
    rank: int,
    alpha: float,
    node_id: str | None = None,
) -> tuple[dict[str, torch.Tensor], TrainingRecord]:
    """Train a LoRA for the spatial attention of ``model`` on single frames of ``latents``.

    ``settings.frames`` must be 1: each step takes ``settings.batch`` random frames. Returns the tensors under names
    that the host's LoRA loaders know. Motion models on ``model`` take no part. Arguments else as in train_motion_lora; raises
    MotionModelMismatch if ``model`` has no Stable Diffusion UNet.
    """
    check_unet(model.model.diffusion_model, "A domain adapter is trained")
    data = TrainingData.of(latents, positive, negative, settings)
    ranks = ranks_of(_projections(model.model.diffusion_model), settings.options.ranks)
    checkpoints = Checkpoints.of(settings.options.checkpoints, folders.LORAS)
    host.free_memory()
    dtype = host.compute_dtype(settings.precision, host.training_device())
    unet = TrainingUNet(model, [], dtype, settings.checkpointing)
    unet.prepare(data.conditionings, data.sizes, settings.frames)
    layers = _projections(unet.unet)
    pairs = new_pairs(layers, rank, alpha, settings.seed, unet.device, ranks, settings.options.rslora)
    for name, pair in pairs.items():
        _replace(unet.unet, name, LowRankLinear(layers[name], pair))

    def trained() -> dict[str, torch.Tensor]:
        return lora_model({f"diffusion_model.{name}": pair.result() for name, pair in pairs.items()})

    def save(path: str, steps: int) -> None:
        save_lora_model(trained(), path, {f"{METADATA_PREFIX}steps": steps})

    with train(unet, parameters(pairs), data, settings, save, (), checkpoints, node_id, alpha) as record:
        return trained(), record


def _projections(unet: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of the spatial attention of ``unet``, by their names."""
    return {
        f"{name}.{projection}": module.get_submodule(projection)
        for name, module in unet.named_modules()
        if isinstance(module, CrossAttention)
        for projection in PROJECTIONS
    }


def _replace(module: nn.Module, name: str, by: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, by)
