"""A step of training as AnimateDiff's paper has it, in plain PyTorch: nothing of this pack, what its own step is compared with.

The UNet is ComfyUI's, as it is. The temporal transformers are written out here (arXiv 2307.04725, section 4.2 and figure 2) and
put behind its layers by hooks; noise is added as DDPM does (arXiv 2006.11239, equation 4), from betas alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

# Of AnimateDiff's schedule for SD1.5, linear in beta, and of SD1.5's autoencoder.
BETAS = (0.00085, 0.012)
TIMESTEPS = 1000
LATENT_SCALE = 0.18215
HEADS = 8

Tensors = Mapping[str, torch.Tensor]
Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
# ``linear("….to_q", x)``: what that layer makes of x.
Linear = Callable[[str, torch.Tensor], torch.Tensor]


def signal_levels() -> torch.Tensor:
    """``alpha_bar`` of each timestep, float64: how much of the variance of a noised picture is the picture's."""
    return torch.cumprod(1 - torch.linspace(*BETAS, TIMESTEPS, dtype=torch.float64), 0)


def merged(tensors: Tensors, pairs: Pairs, scale: float) -> Linear:
    """Layers whose weights are changed: ``W + scale · up · down``."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = tensors[f"{name}.weight"]
        if name in pairs:
            down, up = pairs[name]
            weight = weight + scale * (up @ down)
        return functional.linear(x, weight, tensors.get(f"{name}.bias"))

    return linear


def beside(tensors: Tensors, pairs: Pairs, scale: float) -> Linear:
    """The same, as LoRAs are trained: ``W x + scale · up (down x)``."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        result = functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))
        if name in pairs:
            down, up = pairs[name]
            result = result + functional.linear(functional.linear(x, down), up) * scale
        return result

    return linear


def motion_module(name: str, x: torch.Tensor, frames: int, tensors: Tensors, linear: Linear) -> torch.Tensor:
    """``x (clips * frames, channels, height, width)`` -> same shape: one temporal transformer, and ``x`` again."""
    batch, channels, height, width = x.shape
    name = f"{name}.temporal_transformer"
    y = functional.group_norm(x, 32, tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"], eps=1e-6)
    y = y.reshape(batch // frames, frames, channels, height * width).permute(0, 3, 1, 2).reshape(-1, frames, channels)
    y = linear(f"{name}.proj_in", y)
    block = f"{name}.transformer_blocks.0"
    for index in (0, 1):
        attention = f"{block}.attention_blocks.{index}"
        z = _layer_norm(f"{block}.norms.{index}", y, tensors) + tensors[f"{attention}.pos_encoder.pe"][:, :frames]
        q, k, v = (linear(f"{attention}.to_{each}", z) for each in "qkv")
        y = linear(f"{attention}.to_out.0", attend(q, k, v, HEADS)) + y
    value, gate = linear(f"{block}.ff.net.0.proj", _layer_norm(f"{block}.ff_norm", y, tensors)).chunk(2, dim=-1)
    y = linear(f"{block}.ff.net.2", value * functional.gelu(gate)) + y
    y = linear(f"{name}.proj_out", y)
    y = y.reshape(batch // frames, height * width, frames, channels).permute(0, 2, 3, 1)
    return y.reshape(batch, channels, height, width) + x


def _layer_norm(name: str, x: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """``(sequences, length, channels)``."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@contextmanager
def with_motion(unet: Any, tensors: Tensors, linear: Linear, frames: int) -> Iterator[None]:
    """Inside the ``with``, ``unet`` has the motion modules of ``tensors`` in it, which are those of a file of AnimateDiff's."""
    from comfy.ldm.modules.attention import SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    parts = {"down_blocks.": unet.input_blocks, "mid_block.": [unet.middle_block], "up_blocks.": unet.output_blocks}
    hooks = []
    for part, blocks in parts.items():
        found = {key.partition(".temporal_transformer.")[0] for key in tensors if key.startswith(part)}
        names = iter(sorted(found, key=lambda name: [int(word) for word in name.split(".") if word.isdigit()]))
        for block in blocks if found else ():
            layers = [layer for layer in block if isinstance(layer, SpatialTransformer)]
            layers = layers or [layer for layer in block if isinstance(layer, ResBlock)]
            if layers:
                hooks.append(layers[-1].register_forward_hook(_hook(next(names), tensors, linear, frames)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(name: str, tensors: Tensors, linear: Linear, frames: int) -> Callable:
    return lambda _layer, _inputs, result: motion_module(name, result, frames, tensors, linear)


def loss(
    unet: Any, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """How far ``unet`` is from telling the noise in noised clips (equation 5), for a UNet that has the motion modules in it.

    ``latents`` of the autoencoder and ``noise (clips, frames, 4, height, width)``, ``timesteps (clips,)``,
    ``context (clips, tokens, width)``.
    """
    frames = latents.shape[1]
    signal = signal_levels()[timesteps].to(latents).view(-1, 1, 1, 1, 1)
    noisy = signal.sqrt() * latents * LATENT_SCALE + (1 - signal).sqrt() * noise
    predicted = unet(
        noisy.flatten(0, 1),
        timesteps.repeat_interleave(frames),
        context=context.repeat_interleave(frames, 0),
        transformer_options={"optimized_attention_override": _attention},
    )
    return functional.mse_loss(predicted.unflatten(0, latents.shape[:2]), noise)


def _attention(_function, q, k, v, heads, *_args, **_kwargs):
    return attend(q, k, v, heads)
