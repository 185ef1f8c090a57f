"""What a sampler run refuses before anything is computed."""

import torch

from ..host.told import Told


class UnsupportedLatents(Told, ValueError):
    """Latents that are no clip of pictures; the message says what to connect."""


def check_latents(latents: torch.Tensor) -> None:
    """Raise UnsupportedLatents unless ``latents`` are ``(frames, channels, height, width)``, with something in them.

    Video models have ``(batch, channels, frames, height, width)``, some of them together with sound, in a class of the
    host's that is no tensor.
    """
    if not isinstance(latents, torch.Tensor) or latents.ndim != 4:
        raise UnsupportedLatents(
            f"The latents have the shape {tuple(latents.shape)}, that of a video model's, but AnimateDiff needs one picture "
            "per frame: (frames, channels, height, width). Use Empty Latent Image, with batch_size as the number of frames."
        )
    if not latents.numel():
        raise UnsupportedLatents(
            f"There is nothing to sample: the latents have the shape {tuple(latents.shape)} (frames, channels, height, width). "
            "Use Empty Latent Image, with batch_size as the number of frames."
        )
