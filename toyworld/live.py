"""The toy world's networks without their dead channels, as a MODEL of the host: the same results in a tenth of the time.

What samples and trains on them is the pack's own code, which knows nothing of it.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch
from torch import nn

from . import autoencoder, motion, unet, weights
from .checkpoint import LATENT_SCALE
from .text_encoder import contexts
from .worlds import SCENES, World

INNER_HEADS = unet.HEADS * motion.INNER // unet.WIDTH


class LiveNorm(nn.Module):
    """Layer norm over all channels, of which the live ones go on: the weights of the others are zero."""

    def __init__(self, full: nn.Module):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(half[: motion.INNER].clone()) for half in (full.weight, full.bias))
        self.eps = full.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        return normed[..., : motion.INNER] * self.weight.to(x.dtype) + self.bias.to(x.dtype)


class LiveLinear(nn.Linear):
    """Computes in the dtype of its input, as the host's layers do: weights that are trained are float32 whatever the UNet computes in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.linear(x, self.weight.to(x.dtype), bias)


def _linear(full: nn.Module, features_in: int, features_out: int) -> nn.Linear:
    """The live part of a linear layer."""
    layer = LiveLinear(features_in, features_out, bias=full.bias is not None)
    layer.weight.data = unet.take(full.weight, (features_out, features_in)).clone()
    if full.bias is not None:
        layer.bias.data = unet.take(full.bias, (features_out,)).clone()
    return layer


def live_motion_model(full: nn.Module) -> nn.Module:
    """Cut the dead channels out of a MotionModel of the toy world, which is altered."""
    n, inner, width = unet.LIVE, motion.INNER, unet.WIDTH
    for part in ("down", "mid", "up"):
        for module in full.modules_of(part):
            transformer = module.temporal_transformer
            norm = nn.GroupNorm(transformer.norm.num_groups * n // width, n, eps=transformer.norm.eps)
            norm.weight.data, norm.bias.data = transformer.norm.weight[:n].clone(), transformer.norm.bias[:n].clone()
            transformer.norm = norm
            transformer.proj_in = _linear(transformer.proj_in, n, width)
            transformer.proj_out = _linear(transformer.proj_out, width, n)
            for block in transformer.transformer_blocks:
                block.norms = nn.ModuleList(map(LiveNorm, block.norms))
                block.ff_norm = LiveNorm(block.ff_norm)
                block.ff.net[0].proj = _linear(block.ff.net[0].proj, inner, 8 * inner)
                block.ff.net[2] = _linear(block.ff.net[2], 4 * inner, width)
                for attention in block.attention_blocks:
                    attention.heads = INNER_HEADS
                    for name in ("to_q", "to_k", "to_v"):
                        setattr(attention, name, _linear(getattr(attention, name), inner, inner))
                    attention.to_out[0] = _linear(attention.to_out[0], inner, width)
                    attention.pos_encoder.pe = attention.pos_encoder.pe[..., :inner].clone()
    spec = full.spec
    cut = {"down": tuple((n,) * len(level) for level in spec.down), "up": tuple((n,) * len(level) for level in spec.up)}
    full.spec = replace(spec, mid=(n,) * len(spec.mid), **cut)
    return full.eval().requires_grad_(False)


def live_lora(
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]], layers: dict[str, nn.Linear]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The inverse of ``full_lora``: the pairs of a full MotionLoRA as those of the live motion model's ``layers``."""
    return {
        name: (down[:, : layers[name].in_features].clone(), up[: layers[name].out_features].clone())
        for name, (down, up) in pairs.items()
    }


def full_lora(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The pairs of a MotionLoRA of the live motion model as those of the full one."""
    return {
        layer: (unet.place(down, (down.shape[0], unet.WIDTH)), unet.place(up, (unet.WIDTH, up.shape[1])))
        for layer, (down, up) in pairs.items()
    }


def _patcher(network: nn.Module) -> comfy.model_patcher.ModelPatcher:
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(network.eval().requires_grad_(False), cpu, cpu)


def text_to_image(adapter: bool = False, world: World = SCENES) -> comfy.model_patcher.ModelPatcher:
    """The still model as a MODEL, with the domain adapter in it or without."""
    config = comfy.supported_models.SD15({**unet.SHAPE, "model_channels": 32, "num_heads": 1, "context_dim": 8})
    base = comfy.model_base.BaseModel(config)
    base.diffusion_model = unet.live_unet()
    base.diffusion_model.dtype = torch.float32
    base.diffusion_model.load_state_dict(weights.load_live(f"{world.prefix}stills"))
    if adapter:
        _add_adapter(base.diffusion_model.state_dict())
    # with frozen weights in channels_last PyTorch 2.11 does not come through a backward pass on every processor
    base.diffusion_model.to(memory_format=torch.contiguous_format)
    return _patcher(base)


def _add_adapter(layers: dict[str, torch.Tensor]) -> None:
    """Add the domain adapter to the weights of the live UNet, which are altered."""
    pairs = weights.load_live("adapter")
    for name in pairs:
        layer, found, _ = name.partition(".lora_up.weight")
        if found:
            weight = layers[f"{layer.removeprefix('diffusion_model.')}.weight"]
            change = pairs[name].flatten(1) @ pairs[f"{layer}.lora_down.weight"].flatten(1)
            weight += unet.take(change, tuple(weight.shape))


def motion_patcher(pack, world: World = SCENES) -> comfy.model_patcher.ModelPatcher:
    """The motion model as the pack's loader hands it on."""
    return motion_patcher_of(pack, motion.full(weights.load_live(f"{world.prefix}motion")))


def motion_patcher_of(pack, tensors: dict[str, torch.Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The same of the full ``tensors`` of a motion model."""
    files = pack.submodule("motion_models.files.motion_model")
    temporal = pack.submodule("motion_models.network.temporal")
    spec, tensors = files.interpret("toyworld", tensors, {})
    model = temporal.MotionModel(spec, torch.float32)
    model.load_state_dict(tensors)
    return _patcher(live_motion_model(model))


def conditionings(texts: list[str]) -> list[list]:
    """A CONDITIONING of each text."""
    return [[[context[None, :, : unet.LIVE_TEXT], {}]] for context in contexts(texts)]


class Autoencoder:
    """The VAE: pictures ``(frames, height, width, 3)`` in 0..1 and the host's latents ``(frames, 4, height, width)``."""

    def __init__(self, world: World = SCENES):
        kept = weights.load_live(f"{world.prefix}autoencoder")
        self.encoder, self.decoder = autoencoder.encoder(), autoencoder.decoder()
        for part in ("encoder", "decoder"):
            of_part = {k.removeprefix(f"{part}."): v for k, v in kept.items() if k.startswith(f"{part}.")}
            getattr(self, part).load_state_dict(of_part)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.encoder(pictures.movedim(-1, 1)) / LATENT_SCALE

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(latents * LATENT_SCALE).movedim(1, -1).clamp(0, 1)
