"""AnimateLCM-I2V in a run: features of a picture, added ahead of motion modules in the down blocks."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import comfy.utils
import torch

from ...motion_models.adapters.network import compute_dtype
from ...motion_models.network.call import MotionInputs
from ...motion_models.network.features import FrameFeatures
from ...motion_models.network.strength import for_frames
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Run
from ..motion.adapter import Adapter, AdapterInPass, PerWindow, Values
from ..windows.schedules import Window


@dataclass(frozen=True, eq=False)
class ImageToVideo(Adapter):
    """``encoder``: the host's patcher of an ImageEncoder. ``latents (k, channels, height, width)`` in the VAE's scale.

    One picture serves all frames; of several, each is for one frame and the last one for those that follow. ``drift`` sets
    the frames apart. ``when_disabled``: the features are added where the motion model does not act, too.
    """

    encoder: Any
    latents: torch.Tensor
    drift: float = 0.0
    when_disabled: bool = False

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.encoder,)

    def check(self, run: Run, spec: MotionModelSpec) -> None:
        if run.latents.shape[1] != self.encoder.model.latent_channels:
            raise ValueError(
                f"The image encoder of AnimateLCM-I2V takes latents of {self.encoder.model.latent_channels} channels, but "
                f"those being sampled have {run.latents.shape[1]}. Load a checkpoint of Stable Diffusion 1.5."
            )

    def begin(self, run: Run, spec: MotionModelSpec) -> "ImageToVideoInPass":
        return ImageToVideoInPass(self, run, spec)


class ImageToVideoInPass(AdapterInPass):
    def __init__(self, adapter: ImageToVideo, run: Run, spec: MotionModelSpec):
        self.adapter = adapter
        self.encoder = adapter.encoder.model
        self.features = PerWindow(run.device)
        # the last module of each level that goes down, as the encoder was trained
        self.modules = [f"down_blocks.{i}.motion_modules.{len(level) - 1}" for i, level in enumerate(spec.down)]
        height, width = run.latents.shape[-2:]
        latents = comfy.utils.common_upscale(adapter.latents.float(), width, height, "nearest-exact", "center")
        latents = run.latent_format.process_in(latents)
        self.latents = latents if len(latents) == 1 else for_frames(latents, run.frames)

    def inputs(self, call: Call, values: Values, inputs: MotionInputs) -> MotionInputs:
        reached = [
            (level, name)
            for level, name in enumerate(self.modules)
            if self.adapter.when_disabled or inputs.module(name).effect != 0.0
        ]
        if not reached:
            return inputs
        features = self._features(call)
        return replace(inputs, ahead={**inputs.ahead, **{name: FrameFeatures(features[i]) for i, name in reached}})

    def _features(self, call: Call) -> list[torch.Tensor]:
        one = len(self.latents) == 1

        def key(window: Window | None) -> Hashable:
            # of one picture they depend on the length of the window alone
            return call.frames if one else tuple(window or ())

        def compute(window: Window | None) -> list[torch.Tensor]:
            latents = self.latents if one or window is None else self.latents[window]
            latents = latents.to(call.x.device, compute_dtype(self.encoder, call.x.dtype))
            return self.encoder(latents, call.frames, self.adapter.drift)

        return self.features.of_call(call, key, compute)
