"""PIA in a run: a picture that the UNet sees beside the latents, and how much each frame shall be like it.

PIA (Zhang et al., arXiv 2312.13964): section 3.2 has the further input channels, section 4.1 how the likeness of frames says
how much they move. The numbers of the presets are those that its authors publish for use.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from ...motion_models.network.call import MotionInputs
from ...motion_models.network.strength import for_frames, strength_at, strength_of
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Denoise, Predictions, Run
from ..motion.adapter import Adapter, AdapterInPass, Values
from ..strength.multival import Multival, combined, of_numbers
from .first_convolution import Beside, check, encoded, seeing
from .per_run import PerRun

# The input of Apply and keyframe nodes that says how alike to the picture frames shall be.
PIA_INPUT = "pia_input"
LOOP = "Loop"
ANIMATION = {"Small": (1, 0.9, 0.85, 0.85, 0.85, 0.8), "Medium": (1, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75)}
# Likeness by the distance from the frame that the picture is of; the last value serves all that are further away.
PRESETS: dict[str, tuple[float, ...]] = {
    f"{kind} ({amount} Motion)": tuple(map(float, values))
    for kind, amounts in {
        "Animation": {**ANIMATION, "Large": (1, 0.8, *[0.7] * 8, 0.6, 0.5, 0.5)},
        LOOP: {**ANIMATION, "Large": (1, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5)},
        "Style Transfer": {
            "Small": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
            "Medium": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
            "Large": (0.5, 0.2),
        },
    }.items()
    for amount, values in amounts.items()
}


def likeness(preset: str, index: int, frames: int) -> list[float]:
    """How much each of ``frames`` frames shall be like the picture, which is frame ``index`` (negative: from the end)."""
    values = PRESETS[preset]
    if preset.startswith(LOOP):
        way = [values[min(i, len(values) - 1)] for i in range(max(frames // 2, 1))]
        values = [*way, *way[-1:] * (frames % 2), *reversed(way)]
    index = min(max(index + frames if index < 0 else index, 0), frames - 1)
    return [values[min(abs(frame - index), len(values) - 1)] for frame in range(frames)]


@dataclass(frozen=True, eq=False)
class PiaInput:
    """PIA_INPUT: how much frames shall be like the picture: ``strength``, times the ``preset`` around frame ``index``."""

    strength: Multival | None = None
    preset: str | None = None
    index: int = 0
    printed: bool = False

    def over(self, frames: int) -> Multival:
        """For a clip of ``frames`` frames."""
        if self.preset is None:
            return combined(self.strength, None)
        values = likeness(self.preset, self.index, frames)
        if self.printed:
            logging.info("[AnimateDiff] PIA preset '%s': %s", self.preset, ", ".join(f"{value:g}" for value in values))
        return combined(of_numbers(values), self.strength)


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
