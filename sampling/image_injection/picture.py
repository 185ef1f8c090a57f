"""A picture that is laid into noisy latents: onto what the clip looks like at that step, with the noise kept.

The denoised prediction is decoded, the picture laid over it and encoded again; what the latents have beyond the decoded
prediction, noise for the most part, is added to that. A few frames at a time: the memory it takes does not grow with the
clip.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from ...host import vae as host_vae
from ..strength.multival import Multival, for_latents, pictures


@dataclass(frozen=True)
class Place:
    """How far from the left (``x``) and from the top (``y``) the picture lies, in eighths of a pixel."""

    x: int = 0
    y: int = 0


@dataclass(frozen=True, eq=False)
class InjectedPicture:
    """``image (k, height, width, channels)`` for the frames of a clip; the last one serves all frames that follow.

    ``mask (k, height, width)`` says where in the picture it covers the clip (None: everywhere), ``inverted`` where not.
    ``resized``: to the size of the clip. It is laid in at ``start_percent`` of the sampling schedule, after
    ``guarantee_steps`` steps in a row. ``strength`` 0 leaves the latents as they are, 1 takes the new ones.
    """

    image: torch.Tensor
    vae: object
    mask: torch.Tensor | None = None
    inverted: bool = False
    resized: bool = True
    start_percent: float = 0.0
    guarantee_steps: int = 1
    place: Place = Place()
    strength: Multival = 1.0

    def into(self, latents: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
        """``latents (frames, channels, height, width)`` with the picture in them; both in the scale of the VAE."""
        parts = [self._into(latents[part], denoised[part], part.start) for part in host_vae.parts(len(latents))]
        laid_in = torch.cat(parts)
        if not isinstance(self.strength, torch.Tensor) and self.strength == 1.0:
            return laid_in
        strength = for_latents(self.strength, latents)
        return laid_in * strength + latents * (1 - strength)

    def _into(self, latents: torch.Tensor, denoised: torch.Tensor, first: int) -> torch.Tensor:
        """The same for frames from ``first`` on."""
        clip = host_vae.decode(self.vae, denoised)
        beyond = latents - host_vae.encode(self.vae, clip).to(latents)
        return host_vae.encode(self.vae, self.over(clip, first)).to(latents) + beyond

    def over(self, clip: torch.Tensor, first: int = 0) -> torch.Tensor:
        """``clip (frames, height, width, 3)``, from frame ``first`` on, with the picture laid over it."""
        frames = range(first, first + len(clip))
        image = _of_frames(self.image[..., :3], frames).to(clip)
        if self.resized:
            image = _resized(image, clip.shape[1:3])
        covers = torch.ones_like(image[..., :1])
        if self.mask is not None:
            mask = _of_frames(pictures(self.mask), frames).unsqueeze(-1).to(clip)
            covers = _resized(1 - mask if self.inverted else mask, image.shape[1:3])
        # an eighth of a pixel each: the offsets are those of latents, but meet pictures
        left, top = (offset // host_vae.pixels_per_latent(self.vae) for offset in (self.place.x, self.place.y))
        height, width = max(0, clip.shape[1] - top), max(0, clip.shape[2] - left)
        image, covers = image[:, :height, :width], covers[:, :height, :width]
        result = clip.clone()
        below = result[:, top : top + image.shape[1], left : left + image.shape[2]]
        below.copy_(image * covers + below * (1 - covers))
        return result


def _of_frames(values: torch.Tensor, frames: range) -> torch.Tensor:
    return values[[min(frame, len(values) - 1) for frame in frames]]


def _resized(images: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """``images (n, height, width, channels)`` in another ``(height, width)``, bilinearly."""
    return interpolate(images.movedim(-1, 1), tuple(size), mode="bilinear").movedim(1, -1)
