"""Live weights -> files that ComfyUI loads: an SD1.5 checkpoint with text encoder and autoencoder."""

import torch

from . import autoencoder, text_encoder, unet

# ComfyUI scales latents by this before it gives them to an SD1.5 UNet; ours are of unit scale there.
LATENT_SCALE = 0.18215
TAESD_WIDTH = 64


def _autoencoder_tensors(live: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``live`` has names ``encoder.N…`` and ``decoder.N…``; dead blocks and channels become zeros."""
    tensors = {}
    for part in ("encoder", "decoder"):
        for name, module in getattr(autoencoder, part)().named_modules():
            if isinstance(module, autoencoder.DeadBlock):
                for layer in (0, 2, 4):
                    tensors[f"{part}.{name}.conv.{layer}.weight"] = torch.zeros(TAESD_WIDTH, TAESD_WIDTH, 3, 3)
                    tensors[f"{part}.{name}.conv.{layer}.bias"] = torch.zeros(TAESD_WIDTH)
    for name, value in live.items():
        shape = [TAESD_WIDTH if size == autoencoder.LIVE else size for size in value.shape]
        tensors[name] = unet.place(value, tuple(shape))
    tensors = {f"first_stage_model.taesd_{name}": value for name, value in tensors.items()}
    tensors["first_stage_model.vae_scale"] = torch.tensor(LATENT_SCALE)
    tensors["first_stage_model.vae_shift"] = torch.tensor(0.0)
    return tensors


def expand(live_unet: dict[str, torch.Tensor], live_autoencoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint for ComfyUI's Load Checkpoint, float16 (the autoencoder float32)."""
    shapes = unet.full_unet_shapes()
    tensors = {
        f"model.diffusion_model.{name}": unet.place(live_unet[name].half(), shape) for name, shape in shapes.items()
    }
    autoencoder_tensors = {k: v.float() for k, v in live_autoencoder.items()}
    return {**tensors, **text_encoder.tensors(), **_autoencoder_tensors(autoencoder_tensors)}
