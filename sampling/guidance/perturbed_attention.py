"""Guidance away from what the UNet predicts without self-attention in its middle.

Ahn et al., "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance" (arXiv 2403.17377), section 3.
"""

from dataclasses import dataclass

import comfy.model_patcher
import comfy.samplers
import torch

from ..strength.multival import Multival, for_latents, is_number


@dataclass(frozen=True, eq=False)
class PerturbedAttention:
    """Adds ``scale`` times the difference between the positive prediction and the perturbed one."""

    scale: Multival

    def __call__(self, args: dict) -> torch.Tensor:
        """A sampler_post_cfg_function of the host."""
        if is_number(self.scale, 0.0):
            return args["denoised"]
        model, x = args["model"], args["input"]
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), lambda q, k, v, *_, **__: v, "attn1", "middle", 0
        )
        (perturbed,) = comfy.samplers.calc_cond_batch(model, [args["cond"]], x, args["sigma"], options)
        return args["denoised"] + (args["cond_denoised"] - perturbed) * for_latents(self.scale, x)
