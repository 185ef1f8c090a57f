"""The clip that is being sampled, moving on the node that samples it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..host.preview import playing_clip
from .feature import Feature, Pass, Run


@dataclass(frozen=True)
class ClipPreview(Feature):
    """Plays all frames of the clip as they are after each step, where the sampler's node shows previews at all."""

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        if run.frames == 1 or not start.after_step:
            return then(start)
        with playing_clip(run.device, run.latent_format) as play:
            if play is None:
                return then(start)
            # behind the host's own, which shows the first frame
            return then(replace(start, after_step=(*start.after_step, lambda step, denoised, *rest: play(denoised))))
