"""How much moves in a clip, by one number: the scale of temporal attention's keys, and what the frames' noise has in common.

Noise that frames share holds them together: Ge et al., "Preserve Your Own Correlation" (arXiv 2305.10474), section 4.1, mixed
noise. Here what they share turns in the course of the clip from one noise towards another and on to the opposite of the first: so
neighbours have much in common, which calms the clip, and the clip as a whole has not, which on the toy world made shapes go further
instead. Each frame by itself stays white noise of variance 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..motion_models.network.call import CALL_KEY, MotionCall
from .animate import feature_of
from .feature import Call, Denoise, Feature, Pass, Predictions, Run
from .motion.feature import Motion
from .noise.generator import seeded
from .noise.initial import NoiseLayer, Source

STANDS_STILL, AS_IT_WAS, MOST = 0.0, 1.0, 2.0
# What each amount means; between them, on the straight line. Chosen on the toy world, on other seeds than those of its claims.
AMOUNTS = (STANDS_STILL, AS_IT_WAS, MOST)
SCALES = (0.3, 1.0, 2.0)
SHARED = (0.5, 0.0, 0.0)
# How far what frames share turns from the first to the last, in radians.
TURN = math.pi
# Added to the sampler's seed: frames do not share the noise of the first.
SEED_OFFSET = 0xA0


@dataclass(frozen=True)
class MotionAmount(Feature):
    """``amount``: 0 hardly any motion, 1 as without it, 2 the most."""

    amount: float = AS_IT_WAS

    @property
    def scale(self) -> float:
        return float(np.interp(self.amount, AMOUNTS, SCALES))

    @property
    def shared(self) -> float:
        return float(np.interp(self.amount, AMOUNTS, SHARED))

    def check(self, run: Run) -> None:
        motion = feature_of(run.patcher, Motion)
        if motion is None or not motion.motion_models:
            raise ValueError(
                "Motion Amount changes what motion models do, but the MODEL has none. Connect it behind Use Evolved Sampling, "
                "with a motion model in m_models."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        motion = feature_of(run.patcher, Motion)
        if self.amount == AS_IT_WAS or motion is None:
            return then(start)
        if torch.any(start.noise):  # later stages of KSamplerAdvanced add none
            start = replace(start, noise=with_shared(start.noise, run.seed, self.shared))
        blocks = [applied.spec.attention_blocks for applied in motion.motion_models]

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            told = MotionCall.of(call.options)
            inputs = (one.scaled(self.scale, count) for one, count in zip(told.motion, blocks, strict=True))
            return go_on(call.with_options(**{CALL_KEY: replace(told, motion=tuple(inputs))}))

        return then(start.around_each_call(around_call))


def with_shared(noise: torch.Tensor, seed: int, share: float, turn: float = TURN) -> torch.Tensor:
    """``noise (frames, channels, height, width)`` mixed with noise that the frames share, at the weight ``share`` (0..1).

    ``turn``: how far that turns from the first frame to the last, in radians. Two frames between which it turns by ``a`` have the
    correlation ``cos(a) share^2 / (share^2 + (1 - share)^2)``.
    """
    if share == 0.0:
        return noise
    first, other = torch.randn((2, *noise.shape[1:]), generator=seeded(seed + SEED_OFFSET)).to(noise)
    angles = torch.linspace(0.0, turn, len(noise)).to(noise)[:, None, None, None]
    layer = NoiseLayer("normalized sum", Source(), weight=share)
    return layer.over(noise, angles.cos() * first + angles.sin() * other)
