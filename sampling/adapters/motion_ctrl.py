"""MotionCtrl's camera in a run: poses that hidden states meet behind temporal attention."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...motion_models.adapters.camera import MATRIX, Poses
from ...motion_models.network.call import MotionInputs, Projection
from ...motion_models.network.features import FrameFeatures
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Run
from ..motion.adapter import Adapter, AdapterInPass, Values
from .camera_control import poses_of


@dataclass(frozen=True, eq=False)
class MotionCtrl(Adapter):
    """``camera``: the host's patcher of a MotionCtrlCamera."""

    camera: Any
    poses: Poses

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (self.camera,)

    def begin(self, run: Run, spec: MotionModelSpec) -> AdapterInPass:
        return MotionCtrlInPass(self, run)


class MotionCtrlInPass(AdapterInPass):
    def __init__(self, adapter: MotionCtrl, run: Run):
        poses = poses_of(adapter.poses, run.frames, None)
        self.matrices = torch.tensor([pose[MATRIX] for pose in poses])[:, :, None, None].to(run.device)
        self.layers = adapter.camera.model.behind()

    def inputs(self, call: Call, values: Values, inputs: MotionInputs) -> MotionInputs:
        if not inputs.acts:
            return inputs
        matrices = self.matrices if call.window is None else self.matrices[call.window]
        features = FrameFeatures(matrices, without=_negative(call))
        return replace(inputs, projections={name: Projection(layer, features) for name, layer in self.layers.items()})


def _negative(call: Call) -> frozenset:
    """The ids of negative conds: as in the training without a text, their camera does not count."""
    guider_conds = call.run.guider.conds
    return frozenset(cond["uuid"] for name, conds in guider_conds.items() if "negative" in name for cond in conds)
