"""Objects that follow a path, without training: noise along it, and attention that keeps to its boxes (FreeTraj, TrailBlazer)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ...host.compiling import is_compiled
from ...motion_models.network.injection import check_unet
from ..animate import feature_of
from ..feature import Call, Denoise, Feature, Pass, Predictions, Run
from ..keyframes import ActiveRange
from ..motion.feature import Motion
from .attention import SpatialAttention
from .drawn import noise_along
from .path import MotionPath
from .words import Words

DEFAULT_NOISE = 0.0
DEFAULT_ATTENTION = 30.0
DEFAULT_END = 0.7


@dataclass(frozen=True)
class FollowPath(Feature):
    """``noise``: how much of the low frequencies in a box all frames share, 0..1. ``attention``: what is added to logits.

    ``end_percent``: up to where in the sampling schedule attention is changed.
    """

    path: MotionPath
    words: Words
    noise: float = DEFAULT_NOISE
    attention: float = DEFAULT_ATTENTION
    end_percent: float = DEFAULT_END

    start_percent = 0.0

    @property
    def ties(self) -> bool:
        """Whether attention is changed, which is that of objects."""
        return bool(self.attention and self.path.objects)

    def check(self, run: Run) -> None:
        check_unet(run.patcher.get_model_object("diffusion_model"), "Follow Path is")
        if feature_of(run.patcher, Motion) is None:
            raise ValueError(
                "Follow Path lets the motion model follow a path, but the MODEL is not animated. Connect it behind Use Evolved "
                "Sampling."
            )
        if self.ties and is_compiled(run.model_options):
            raise ValueError(
                "Follow Path changes the UNet's attention in a part of the steps, which compiled code does not follow. Take "
                "TorchCompileModel off the MODEL, or set attention to 0: the path then acts by noise alone."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        boxes = self.path.at(run.frames)
        if torch.any(start.noise):  # later stages of KSamplerAdvanced add none
            start = replace(start, noise=noise_along(start.noise, self.path, run.seed, self.noise))
        if not self.ties or self.end_percent == 0.0:
            return then(start)
        active = ActiveRange.of(self, run.model_sampling)
        spatial = SpatialAttention(boxes, self.words, self.attention)

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            if active is not None and not active.holds(call.step):
                return go_on(call)
            window, size = call.window or list(range(call.frames)), call.x.shape[2:]
            return go_on(call.with_options(**spatial.with_ties(call.transformer_options, window, call.negatives, size)))

        return then(start.around_each_call(around_call))
