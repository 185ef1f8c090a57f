"""UniCtrl: frames of one look, with the motion that they would have without it.

Chen, Xia and Xu, "UniCtrl: Improving the Spatiotemporal Consistency of Text-to-Video Diffusion Models via Training-Free
Unified Attention Control" (arXiv 2403.02332), section 3. In every self-attention of the UNet, frame i of the sampled clip
gets ``softmax(q^m_i k_0^T / sqrt(d)) v_0``:

* keys and values are those of the first frame (cross-frame self-attention control),
* queries are those of a second branch, which has attention as it was (motion injection); without it the frames of the
  clip would not only look alike but stand still,
* the second branch begins each step with the latents of the first (spatiotemporal synchronization). So it is a second
  evaluation of the UNet on the same input, and nothing of it is kept between steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..feature import Call, Denoise, Feature, Pass, Predictions, Run
from ..keyframes import ActiveRange
from ..windows.other_packs import skips_calls
from .first_frame import (
    FirstFrame,
    attention_patches,
    check_attention,
    place,
    unet_wrappers,
)

KEY = "AnimateDiff UniCtrl"


@dataclass(frozen=True)
class UniCtrl(Feature):
    """``strength``: 0 leaves attention as it is, 1 takes keys and values of the first frame alone.

    ``motion_end_percent``: queries are those of the motion branch up to there, the paper's motion injection degree.
    """

    one_window_each = "UniCtrl"

    strength: float = 1.0
    motion_end_percent: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0

    def check(self, run: Run) -> None:
        check_attention(run, "UniCtrl")
        if skips_calls(run):
            raise ValueError(
                "UniCtrl evaluates the UNet twice on the same latents, and EasyCache would take the second time for a step that "
                "it may skip. Remove EasyCache (LazyCache, which leaves out whole steps, works), or UniCtrl."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        if self.strength == 0.0 or run.frames == 1:
            return then(start)
        active = ActiveRange.of(self, run.model_sampling)
        motion = _Motion(0.0, self.motion_end_percent)
        moving = ActiveRange.of(motion, run.model_sampling)
        first = FirstFrame()

        def around_call(call: Call, go_on: Denoise) -> Predictions:
            if active is not None and not active.holds(call.step):
                return go_on(call)
            first.begin(call)
            options = call.transformer_options
            if self.motion_end_percent == 0.0 or (moving is not None and not moving.holds(call.step)):
                return go_on(call.with_options(**attention_patches(options, self._attention(first, {}))))
            return go_on(call.with_options(**unet_wrappers(options, KEY, around_unet)))

        def around_unet(
            executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
        ):
            options = transformer_options or {}
            queries: dict[tuple, torch.Tensor] = {}

            def branch(patch, control):
                patched = {**options, **attention_patches(options, patch)}
                return executor(x, t, c_concat, c_crossattn, control, patched, **kwargs)

            branch(_remember(queries), _copied(control))
            return branch(self._attention(first, queries), control)

        return then(start.around_each_call(around_call))

    def _attention(self, first: FirstFrame, queries: dict[tuple, torch.Tensor]):
        """An attn1_patch: ``queries`` by place instead of those at hand, where there are any."""

        def patch(n, context, value, options):
            return queries.pop(place(options), n), *first.sources(context, value, options, self.strength)

        return patch


@dataclass(frozen=True)
class _Motion:
    start_percent: float
    end_percent: float


def _remember(queries: dict[tuple, torch.Tensor]):
    def patch(n, context, value, options):
        queries[place(options)] = n
        return n, context, value

    return patch


def _copied(control: dict | None) -> dict | None:
    """What ControlNets gave: the UNet takes the tensors out of its lists as it goes."""
    return control and {name: list(tensors) for name, tensors in control.items()}
