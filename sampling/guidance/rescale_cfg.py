"""Guidance whose contrast is brought back to that of the positive prediction.

Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891), section 3.4.
"""

from dataclasses import dataclass

import torch

from ..strength.multival import Multival, for_latents


def rescaled(positive: torch.Tensor, guided: torch.Tensor, phi: float | torch.Tensor) -> torch.Tensor:
    """``guided`` with its standard deviation brought to that of ``positive``, picture by picture, as far as ``phi`` says.

    Both ``(frames, channels, height, width)``; equations 15 and 16 of the paper.
    """
    deviation_positive, deviation_guided = (x.flatten(1).std(1).view(-1, 1, 1, 1) for x in (positive, guided))
    return guided * (phi * deviation_positive / deviation_guided + (1.0 - phi))


@dataclass(frozen=True, eq=False)
class RescaleCfg:
    """``multiplier``: how much of the contrast is brought back; phi in the paper."""

    multiplier: Multival

    def __call__(self, args: dict) -> torch.Tensor:
        """A sampler_cfg_function of the host, whose "noise" is the noisy latents minus the clean ones."""
        noisy, sigma = args["input"], args["sigma"].view(-1, 1, 1, 1)
        # The host's latents grow with sigma; the paper's keep their variance: x_t = alpha_t x_0 + sigma_t eps.
        alpha_t = (1.0 + sigma**2) ** -0.5
        sigma_t = sigma * alpha_t
        x_t = noisy * alpha_t

        def velocity(noise: torch.Tensor) -> torch.Tensor:
            return (alpha_t * x_t - (noisy - noise)) / sigma_t

        positive, negative = velocity(args["cond"]), velocity(args["uncond"])
        guided = negative + args["cond_scale"] * (positive - negative)
        final = rescaled(positive, guided, for_latents(self.multiplier, noisy))
        return noisy - (alpha_t * x_t - sigma_t * final)
