"""What motion modules add to the picture, kept for a few steps: it changes little from one to the next.

Zhao et al., "Real-Time Video Generation with Pyramid Attention Broadcast" (arXiv 2408.12588), section 3: in the middle of the
sampling schedule the outputs of attention are nearly those of the step before, those of temporal attention for longer than
those of spatial attention, and are broadcast to the steps that follow. Here the whole temporal transformer is reused, with its
projections and feed-forward network, and not its attention alone: one tensor to keep in place of two, and more time saved.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..motion_models.network.call import CALL_KEY, MotionCall
from .animate import feature_of
from .feature import Call, Denoise, Feature, Pass, Predictions, Run, Step
from .keyframes import ActiveRange
from .motion.feature import Motion

# The number of a motion model, the name of a module, a cond (in a window it has a name of its own), and the how many-th time
# it was asked for in a step: samplers of higher order ask several times, and other packs tile by tile.
Key = tuple[int, str, Hashable, int]


@dataclass(frozen=True)
class ReuseMotion(Feature):
    """Motion modules are computed in one of ``every`` steps from ``start_percent`` to ``end_percent``, in the others in all."""

    every: int = 2
    start_percent: float = 0.0
    end_percent: float = 1.0

    def check(self, run: Run) -> None:
        motion = feature_of(run.patcher, Motion)
        if motion is None or not motion.motion_models:
            raise ValueError(
                "Reuse Motion keeps what motion models compute, but the MODEL has none. Connect it behind Use Evolved Sampling, "
                "with a motion model in m_models."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        kept = _Kept(self.every, ActiveRange.of(self, run.model_sampling))

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            kept.begin(call.step)
            motion = MotionCall.of(call.options)
            told = (replace(inputs, transform=partial(kept.transform, i)) for i, inputs in enumerate(motion.motion))
            return go_on(call.with_options(**{CALL_KEY: replace(motion, motion=tuple(told))}))

        return then(start.around_each_call(around_call))


class _Kept:
    """In one pass: never more than what one step computes."""

    def __init__(self, every: int, active: ActiveRange | None):
        self.every, self.active = every, active
        self.step: int | None = None
        self.computed: int | None = None  # the step that what is kept comes from
        self.parts: dict[Key, torch.Tensor] = {}
        self.asked: Counter[tuple[int, str, Hashable]] = Counter()  # in this step

    def begin(self, step: Step) -> None:
        """Before each denoiser call."""
        if step.index == self.step:
            return
        self.step = step.index
        self.asked.clear()
        if self.active is not None and not self.active.holds(step):
            self.computed = None
            self.parts.clear()
        elif self.computed is None or step.index - self.computed >= self.every:
            self.computed = step.index
            self.parts.clear()

    def transform(
        self, model: int, conds: Sequence[Hashable], name: str, x: torch.Tensor, compute: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """A motion module's Transform (call.py)."""
        if self.computed is None or not conds:
            return compute()
        keys = [self._key(model, name, cond) for cond in conds]
        if self.computed == self.step:
            made = compute()
            self.parts.update(zip(keys, made.tensor_split(len(keys)), strict=True))
            return made
        parts = [self.parts[key] for key in keys if key in self.parts]
        if not _fit(parts, x):
            return compute()  # windows move, or a cache left them out
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _key(self, model: int, name: str, cond: Hashable) -> Key:
        self.asked[model, name, cond] += 1
        return model, name, cond, self.asked[model, name, cond]


def _fit(parts: list[torch.Tensor], x: torch.Tensor) -> bool:
    """Whether ``parts``, each ``(clips, frames, channels, height, width)``, are for all pictures of ``x``."""
    return sum(len(part) * part.shape[1] for part in parts) == len(x) and all(
        part.shape[2:] == x.shape[1:] and part.device == x.device for part in parts
    )
