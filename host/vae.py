"""The host's VAE, a few pictures at a time, and what is known of one before it works."""

from collections.abc import Iterator
from typing import Any

import comfy.model_management
import torch

from .told import Told

PICTURES_AT_ONCE = 16
PIXELS = 8  # a side of a latent, in Stable Diffusion


class UnsuitableVae(Told, ValueError):
    """A VAE for another kind of model; the message says which to connect."""


def parts(pictures: int) -> Iterator[slice]:
    """All of so many pictures, PICTURES_AT_ONCE at a time. Heeds Stop."""
    for start in range(0, pictures, PICTURES_AT_ONCE):
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield slice(start, start + PICTURES_AT_ONCE)


def encode(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """``(n, height, width, 3 or more channels)`` in 0..1 -> latents ``(n, channels, height / 8, width / 8)``."""
    return vae.encode(pictures[..., :3])


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    return vae.decode(latents)


def pixels_per_latent(vae: Any) -> int:
    return getattr(vae, "downscale_ratio", PIXELS)


def check(vae: Any, channels: int, name: str) -> None:
    """Raise UnsuitableVae if ``vae``, the input ``vae`` of the node ``name``, makes no latents ``(n, channels, …)``."""
    if getattr(vae, "latent_dim", 2) != 2:
        made = "of videos or of sound"
    elif getattr(vae, "latent_channels", channels) != channels:
        made = f"with {vae.latent_channels} channels"
    else:
        return
    raise UnsuitableVae(
        f"The VAE of {name} makes latents {made}, but those of the clip are of pictures, with {channels} channels. Connect "
        "the VAE of the checkpoint that samples."
    )
