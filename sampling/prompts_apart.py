"""Prompt travel that obeys: frames of different prompts hardly attend to each other in the motion model.

Temporal attention makes frames alike, also those whose prompts say different things, so a prompt shows in frames that are not
its own. Here the logits between two frames get ``strength * u u'``, where u is how far a frame belongs to each of the prompts, as
a vector of length 1: among frames of one prompt nothing changes, as softmax does not know what all logits have in common, and
between frames of two prompts attention falls by ``exp(-strength)``. A frame belongs to the prompt that it shows most of; near the
border u turns from the one to the other, so that each frame still sees its neighbours.

What *Prompt Scheduling (Even)* says of it travels in the conditioning, and acts on every cond of a run alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from ..host.told import Told
from ..motion_models.network.call import CALL_KEY, MotionCall
from ..motion_models.network.features import FrameFeatures
from .animate import feature_of
from .feature import Call, Denoise, Feature, Pass, Predictions, Run
from .motion.feature import Motion

# Of an entry of a CONDITIONING: the Apart of its prompts.
KEY = "animatediff_prompts_apart"
# Each is a channel more in temporal attention.
MOST_PROMPTS = 64


class PromptsApartError(Told, ValueError):
    """Prompts that cannot be kept apart; the message says what to change."""


@dataclass(frozen=True)
class Apart:
    """``prompts[i]`` is the number of the prompt that frame i of the clip belongs to.

    ``strength`` is what is taken from the logits between frames of two prompts; ``transition``: over how many frames one prompt
    goes over into the next.
    """

    prompts: tuple[int, ...]
    strength: float
    transition: int = 1

    @classmethod
    def of(cls, shown: Sequence[str], strength: float, transition: int) -> Apart:
        """``shown``: the prompt of each frame; equal ones are one. Raises PromptsApartError for more than MOST_PROMPTS."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(shown))}
        if len(numbers) > MOST_PROMPTS:
            raise PromptsApartError(
                f"The schedule has {len(numbers)} different prompts, but keep_apart works with at most {MOST_PROMPTS}. Set it to 0, "
                "or write fewer prompts; what changes in them from frame to frame can be a value of values_replace."
            )
        return cls(tuple(numbers[prompt] for prompt in shown), strength, transition)

    def belongs(self, frames: Sequence[int]) -> torch.Tensor:
        """How far each of ``frames`` belongs to each prompt, ``(frames, prompts)``: its share of ``transition`` frames around it."""
        half = max(1, self.transition) / 2
        offsets = torch.arange(-int(half + 0.5), int(half + 0.5) + 1)
        shares = ((offsets + 0.5).clamp(max=half) - (offsets - 0.5).clamp(min=-half)).clamp(min=0) / (2 * half)
        places = (torch.tensor(list(frames))[:, None] + offsets).clamp(0, len(self.prompts) - 1)
        numbers = torch.tensor(self.prompts)[places]
        return torch.zeros(len(numbers), 1 + max(self.prompts)).scatter_add_(
            1, numbers, shares.expand(len(numbers), -1)
        )

    def ties(self, frames: Sequence[int]) -> FrameFeatures | None:
        """``MotionInputs.ties`` for a call of these frames; None where they belong to prompts alike."""
        belongs = self.belongs(frames)
        if torch.equal(belongs, belongs[:1].expand_as(belongs)):
            return None
        return FrameFeatures(self.strength**0.5 * functional.normalize(belongs)[:, :, None, None])


def kept_apart(conditioning: list[list], apart: Apart) -> list[list]:
    """CONDITIONING of a prompt for each frame that are to be kept apart."""
    return [[cond, {**options, KEY: apart}] for cond, options in conditioning]


def together(conditioning: list[list]) -> list[list]:
    """CONDITIONING that says nothing of it, as that of single frames."""
    return [
        [cond, {k: v for k, v in options.items() if k != KEY} if KEY in options else options]
        for cond, options in conditioning
    ]


def asked(conds: dict[str, list[dict]]) -> tuple[Apart, ...]:
    """What the conds of a guider ask for; several that say the same count once."""
    entries: list[dict[str, Any]] = [entry for of_name in conds.values() for entry in of_name or ()]
    return tuple(dict.fromkeys(entry[KEY] for entry in entries if KEY in entry))


@dataclass(frozen=True)
class PromptsApart(Feature):
    """Of every animated MODEL: it acts where the conditioning asks for it. Several that do so add up."""

    def check(self, run: Run) -> None:
        for apart in self._asked(run):
            if len(apart.prompts) != run.frames:
                raise PromptsApartError(
                    f"keep_apart of Prompt Scheduling needs a prompt for each frame, but the schedule has {len(apart.prompts)} and "
                    f"the clip {run.frames} frames. Set max_length to {run.frames}, or keep_apart to 0."
                )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        found = self._asked(run)
        if not found:
            return then(start)

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            window, motion = call.window or range(call.frames), MotionCall.of(call.options)
            inputs = motion.motion
            for ties in filter(None, (apart.ties(window) for apart in found)):
                inputs = tuple(one.tied(ties) for one in inputs)
            return go_on(call.with_options(**{CALL_KEY: replace(motion, motion=inputs)}))

        return then(start.around_each_call(around_call))

    def _asked(self, run: Run) -> tuple[Apart, ...]:
        motion = feature_of(run.patcher, Motion)
        return asked(run.guider.conds) if motion is not None and motion.motion_models else ()
