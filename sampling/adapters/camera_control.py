"""CameraCtrl in a run: features of a moving camera, merged into temporal attention."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ...motion_models.adapters.camera import Poses
from ...motion_models.adapters.camera_control import PIXELS, merging_attentions, packed
from ...motion_models.adapters.network import compute_dtype
from ...motion_models.adapters.plucker import rays
from ...motion_models.network.call import Merge, MotionInputs
from ...motion_models.network.features import FrameFeatures
from ...motion_models.network.strength import FrameMask, Strength, strength_of
from ...motion_models.network.views import View, Views
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Run
from ..motion.adapter import Adapter, AdapterInPass, PerWindow, Values
from ..strength.multival import Multival, combined, is_number
from ..windows.fuse import FuseContext, fuse_weights
from ..windows.schedules import STANDARD_STATIC, Window, WindowOptions, windows

# The input of Apply and keyframe nodes that says how strongly the camera counts.
MULTIVAL = "cameractrl_multival"


def poses_of(poses: Poses, frames: int, window: list[int] | None) -> Poses:
    """A pose for each frame of a window of the clip; the last one serves all frames that follow."""
    return [poses[min(frame, len(poses) - 1)] for frame in (range(frames) if window is None else window)]


@dataclass(frozen=True, eq=False)
class CameraControl(Adapter):
    """``control``: the host's patcher of a network CameraControl. ``strength`` of None is 1."""

    control: Any
    poses: Poses
    strength: Multival | None = None

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.control,)

    def begin(self, run: Run, spec: MotionModelSpec) -> AdapterInPass:
        return CameraControlInPass(self, run, spec)


class CameraControlInPass(AdapterInPass):
    def __init__(self, adapter: CameraControl, run: Run, spec: MotionModelSpec):
        self.adapter = adapter
        self.network = adapter.control.model
        self.frames = run.frames
        self.size = run.latents.shape[-2:]
        self.features = PerWindow(run.device)
        self.attentions = merging_attentions(spec)
        self.strengths: dict[int, Strength] = {}

    def inputs(self, call: Call, values: Values, inputs: MotionInputs) -> MotionInputs:
        strength = self._strength(values)
        if strength == 0.0 or not inputs.acts:
            return inputs
        if isinstance(strength, FrameMask):
            strength = strength.in_window(call.window)
        levels = [FrameFeatures(values) for values in self._features(call)]
        merges = {
            name: Merge(self.network.merge(name), levels[level], strength)
            for name, (level, _) in self.attentions.items()
        }
        return replace(inputs, merges=merges)

    def _strength(self, values: Values) -> Strength:
        # a pass has one object for each keyframe
        if id(values) not in self.strengths:
            value = combined(self.adapter.strength, values.get(MULTIVAL))
            value = 0.0 if is_number(value, 0.0) else value
            self.strengths[id(values)] = strength_of(value, self.frames)
        return self.strengths[id(values)]

    def _features(self, call: Call) -> list[torch.Tensor]:
        def key(window: Window | None) -> tuple[int, ...]:
            return tuple(range(self.frames) if window is None else window)

        return self.features.of_call(call, key, partial(self._encoded, call))

    def _encoded(self, call: Call, window: Window | None) -> list[torch.Tensor]:
        poses = poses_of(self.adapter.poses, self.frames, window)
        height, width = (PIXELS * side for side in self.size)
        like = {"device": call.x.device, "dtype": compute_dtype(self.network, call.x.dtype)}
        return self.network.encoder(packed(rays(poses, height, width)).to(**like), self._views(len(poses)))

    def _views(self, frames: int) -> Views | None:
        """More frames than the encoder has positions for are seen in overlapping views."""
        most = self.network.encoder.max_frames
        if frames <= most:
            return None
        options = WindowOptions(STANDARD_STATIC, most, most // 2)
        context = FuseContext(frames, most // 2)
        return Views(
            tuple(View(window, fuse_weights("pyramid", window, context)) for window in windows(frames, options))
        )
