"""FancyVideo in a run: its first frames are given, and the UNet is told frame rate and amount of motion."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ...motion_models.network.call import MotionInputs
from ...motion_models.network.strength import strength_at
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Denoise, Predictions, Run
from ..motion.adapter import Adapter, AdapterInPass, Values
from .first_convolution import Beside, check, encoded, seeing
from .per_run import PerRun


@dataclass(frozen=True, eq=False)
class FancyVideo(Adapter):
    """``network``: the host's patcher of a FancyVideoInput. ``images (k, height, width, 3)`` are the first k frames."""

    network: Any
    images: torch.Tensor
    vae: Any
    fps: float = 25.0
    motion_score: float = 3.0
    latents: PerRun[torch.Tensor] = field(default_factory=PerRun)

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.network,)

    def check(self, run: Run, spec: MotionModelSpec) -> None:
        check(self.network.model, self.vae, run, spec.name)

    def begin(self, run: Run, spec: MotionModelSpec) -> AdapterInPass:
        return FancyVideoInPass(self, run, self.latents.get(run, lambda: encoded(self.images, self.vae, run)))


class FancyVideoInPass(AdapterInPass):
    def __init__(self, adapter: FancyVideo, run: Run, latents: torch.Tensor):
        network = adapter.network.model
        self.beside = Beside(network, partial(network.embedding, adapter.fps, adapter.motion_score))
        # latents and mask of the frames that are given; of the others nothing is known
        self.pictures = latents.new_zeros(run.frames, latents.shape[1] + 1, *latents.shape[2:])
        self.pictures[: len(latents)] = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)

    def around_call(self, call: Call, values: Values, inputs: MotionInputs, then: Denoise) -> Predictions:
        pictures = self.pictures if call.window is None else self.pictures[call.window]
        if inputs.default.effect is not None:
            height, width = pictures.shape[-2:]
            pictures = pictures * strength_at(inputs.default.effect, height, width, like=pictures)
        return then(seeing(call, self.beside, pictures))
