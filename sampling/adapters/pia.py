"""PIA in a run: a picture that the UNet sees beside the latents, and how much each frame shall be like it.

PIA (Zhang et al., arXiv 2312.13964), section 3.2.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from ...motion_models.network.call import MotionInputs
from ...motion_models.network.strength import for_frames, strength_at, strength_of
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Denoise, Predictions, Run
from ..motion.adapter import Adapter, AdapterInPass, Values
from ..strength.multival import combined
from .first_convolution import Beside, check, encoded, seeing
from .likeness import PiaInput
from .per_run import PerRun

# The input of Apply and keyframe nodes that says how alike to the picture frames shall be.
PIA_INPUT = "pia_input"


@dataclass(frozen=True, eq=False)
class Pia(Adapter):
    """``network``: the host's patcher of an ImageInput. ``images (k, height, width, 3)``: each for one frame, the last one
    for those that follow. ``likeness`` of None is 1."""

    network: Any
    images: torch.Tensor
    vae: Any
    likeness: PiaInput | None = None
    latents: PerRun[torch.Tensor] = field(default_factory=PerRun)

    joint_group_norm = True

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.network,)

    def check(self, run: Run, spec: MotionModelSpec) -> None:
        check(self.network.model, self.vae, run, spec.name)

    def begin(self, run: Run, spec: MotionModelSpec) -> AdapterInPass:
        latents = self.latents.get(run, lambda: encoded(self.images, self.vae, run))
        return PiaInPass(self, run, latents)


class PiaInPass(AdapterInPass):
    def __init__(self, adapter: Pia, run: Run, latents: torch.Tensor):
        self.likeness = adapter.likeness or PiaInput()
        self.beside = Beside(adapter.network.model)
        self.latents = for_frames(latents, run.frames)
        self.masks: dict[int, Any] = {}

    def around_call(self, call: Call, values: Values, inputs: MotionInputs, then: Denoise) -> Predictions:
        latents = self.latents if call.window is None else self.latents[call.window]
        height, width = latents.shape[-2:]
        mask = self._mask(values)
        mask = strength_at(mask if isinstance(mask, float) else mask.in_window(call.window), height, width, latents)
        pictures = torch.cat([torch.ones_like(latents[:, :1]) * mask, latents], dim=1)
        if inputs.default.effect is not None:
            pictures = pictures * strength_at(inputs.default.effect, height, width, latents)
        return then(seeing(call, self.beside, pictures))

    def _mask(self, values: Values):
        # a pass has one object for each keyframe
        if id(values) not in self.masks:
            frames = len(self.latents)
            keyframe: PiaInput | None = values.get(PIA_INPUT)
            mask = combined(self.likeness.over(frames), None if keyframe is None else keyframe.over(frames))
            self.masks[id(values)] = strength_of(mask, frames)
        return self.masks[id(values)]
