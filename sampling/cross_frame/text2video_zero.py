"""Text2Video-Zero: clips from a UNet that knows pictures only, without motion model and training.

Khachatryan et al. (arXiv 2303.13439): every frame attends to the first (section 3.3, ``first_frame.py``), and the frames
begin as one picture that moves (section 3.2, ``warped_start.py``). Smoothing of the background is left out: it needs a
second network, which finds the foreground.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP

from ..feature import Call, Denoise, Feature, Pass, Predictions, Run
from .first_frame import FirstFrame, attention_patches, check_attention
from .warped_start import levels, warped

KEY = "AnimateDiff Text2Video-Zero"


@dataclass(frozen=True)
class Text2VideoZero(Feature):
    """``motion_x``, ``motion_y``: pixels of the picture that the scene moves from frame to frame, right and down.

    ``delta_t``: how far the first frame is denoised before it is moved, as a part of the sampling schedule, and how much noise
    of its own each frame then gets; 0: none, only the move. ``attention``: 0 leaves self-attention as it is, 1 takes keys
    and values of the first frame.
    """

    one_window_each = "Text2Video-Zero"

    motion_x: float = 12.0
    motion_y: float = 12.0
    delta_t: float = 0.06
    attention: float = 1.0

    def attach(self, model) -> None:
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self._from_warped)

    def detach(self, model) -> None:
        model.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)

    def check(self, run: Run) -> None:
        check_attention(run, "Text2Video-Zero")

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        if self.attention == 0.0 or run.frames == 1:
            return then(start)
        first = FirstFrame()

        def patch(n, context, value, options):
            return n, *first.sources(context, value, options, self.attention)

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            first.begin(call)
            return go_on(call.with_options(**attention_patches(call.transformer_options, patch)))

        return then(start.around_each_call(around_call))

    def _from_warped(
        self, executor, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *rest
    ):
        """SAMPLER_SAMPLE wrapper: the noise that makes the host begin with moved frames. Every pass begins so."""
        if len(noise) > 1 and torch.any(noise):  # later stages of KSamplerAdvanced add no noise
            sampling = model_wrap.inner_model.model_sampling
            full = executor.class_obj.max_denoise(model_wrap, sigmas)
            latents = torch.zeros_like(noise) if latent_image is None else latent_image
            at_start = sampling.noise_scaling(sigmas[0], noise, latents, full)
            without = sampling.noise_scaling(sigmas[0], torch.zeros_like(noise), latents, full)
            per_noise = sampling.noise_scaling(sigmas[0], torch.ones_like(noise), torch.zeros_like(noise), full)

            def denoise(clip: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
                return model_wrap(clip, sigma, model_options=extra_args["model_options"], seed=extra_args.get("seed"))

            towards = levels(sampling, sigmas[0], self.delta_t)
            frames = warped(denoise, at_start, noise, towards, self.motion_x, self.motion_y)
            noise = torch.cat((noise[:1], ((frames - without) / per_noise)[1:]))
        return executor(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *rest)
