"""MotionCtrl's camera (CMCM): layers behind temporal attention that take the camera's poses, and motion modules tuned with them.

Wang et al., "MotionCtrl" (arXiv 2312.03641), section 3.2, "Camera Motion Control Module". The file holds, under the names of
AnimateDiff's motion modules, ``….transformer_blocks.0.cc_projection`` and further weights that take the place of the motion
model's.
"""

import os
import re
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...host.patcher import make_patcher, operations, with_parts
from ..files.adjust import Adjustments
from ..files.checking import MODULE_KEY, check_tensors
from ..files.errors import MotionModelFileError
from ..files.motion_model import built, read_motion_model
from ..files.reading import read_tensors
from ..layouts import PREFIX, Tensors, our_names, table_lengths
from ..network.injection import MotionModelMismatch
from ..spec import MotionModelSpec
from .network import with_weights

# The kind of part (host/patcher.py) that this is of a motion model.
MOTION_CTRL = "MotionCtrl camera"
POSE_NUMBERS = 12  # of the 3x4 matrix from the world to the camera, row by row
PROJECTION = re.compile(r"^(.*\.transformer_blocks\.\d+)\.cc_projection\.(weight|bias)$")


class MotionCtrlCamera(nn.Module):
    """``projections``: the name of a temporal block (with / for a dot) to its channels."""

    def __init__(self, projections: dict[str, int], dtype: torch.dtype | None = None):
        super().__init__()
        self.projections = nn.ModuleDict(
            {name: operations().Linear(c + POSE_NUMBERS, c, dtype=dtype) for name, c in projections.items()}
        )

    def behind(self) -> dict[str, nn.Module]:
        """Layers by the name of the temporal attention that they follow: the first of their block."""
        return {f"{name.replace('/', '.')}.attention_blocks.0": layer for name, layer in self.projections.items()}


def load_with_motion_ctrl(
    path: str,
    camera_path: str,
    tuned: bool = True,
    adjustments: Adjustments | None = None,
    disable_dynamic: bool = False,
):
    """A motion model with MotionCtrl's camera (``host.patcher.parts``); ``tuned``: with the motion weights of its file.

    Raises MotionModelFileError and MotionModelMismatch.
    """
    spec, tensors = read_motion_model(path)
    layers, further = _read(camera_path)
    sources = [(os.path.basename(path), tensors)]
    if tuned:
        both = {**tensors, **further}
        spec = replace(spec, max_frames=min(table_lengths(both).values(), default=spec.max_frames))
        _check_tuned(spec, both, os.path.basename(camera_path))
        del both
        for name in further:
            tensors.pop(name, None)
        sources.append((os.path.basename(camera_path), further))
    camera = load_motion_ctrl(camera_path, layers=layers)
    _check_fit(spec, camera.model, os.path.basename(camera_path))
    reload = (load_with_motion_ctrl, (path, camera_path, tuned, adjustments))
    return with_parts(built(spec, sources, adjustments, reload, disable_dynamic), {MOTION_CTRL: camera})


def load_motion_ctrl(path: str, disable_dynamic: bool = False, layers: Tensors | None = None):
    """A patcher of a MotionCtrlCamera. Raises MotionModelFileError for a file that is none.

    ``layers``: its tensors, where the file has been read.
    """
    if layers is None:
        layers, _ = _read(path)
    channels = {
        name.split(".")[1]: value.shape[0]
        for name, value in layers.items()
        if name.endswith("weight") and value.ndim == 2
    }
    network = with_weights(
        os.path.basename(path),
        "MotionCtrl's camera",
        lambda dtype: MotionCtrlCamera(channels, dtype),
        layers,
        disable_dynamic,
    )
    return make_patcher(network, (load_motion_ctrl, (path,)), disable_dynamic)


def _read(path: str) -> tuple[Tensors, Tensors]:
    """The projections of a file under the names of MotionCtrlCamera, and its other tensors of motion modules under ours."""
    file_name = os.path.basename(path)
    tensors, _ = read_tensors(path)
    projections, further = {}, {}
    for name, value in our_names({PREFIX.sub("", name): value for name, value in tensors.items()}).items():
        if match := PROJECTION.match(name):
            projections[f"projections.{match[1].replace('.', '/')}.{match[2]}"] = value
        elif MODULE_KEY.match(name):
            further[name] = value
    if not projections:
        raise MotionModelFileError(
            f"'{file_name}' is no MotionCtrl camera (CMCM): it has no layers named cc_projection. Choose such a file for "
            "motionctrl, and a motion model for model_name. MotionCtrl's object control (OMCM) cannot be used."
        )
    return projections, further


def _check_tuned(spec: MotionModelSpec, tensors: Tensors, file_name: str) -> None:
    try:
        check_tensors(spec, tensors)
    except MotionModelFileError as error:
        raise MotionModelMismatch(
            f"The motion weights of '{file_name}' do not fit the motion model. The motion model is {spec}. Choose the motion model "
            f"that it was trained with, or switch tuned_motion off. ({error})"
        ) from None


def _check_fit(spec: MotionModelSpec, camera: MotionCtrlCamera, file_name: str) -> None:
    """Raise MotionModelMismatch unless every temporal block of the motion model has its layer."""
    places = (("down_blocks.{}", spec.down), ("mid_block", (spec.mid,)), ("up_blocks.{}", spec.up))
    wanted = {
        f"{part.format(i)}.motion_modules.{j}.temporal_transformer.transformer_blocks.0": channels
        for part, levels in places
        for i, level in enumerate(levels)
        for j, channels in enumerate(level)
    }
    projections: Any = camera.projections
    have = {name.replace("/", "."): layer.weight.shape[0] for name, layer in projections.items()}
    lacking = [name for name, channels in wanted.items() if have.get(name) != channels]
    if lacking:
        raise MotionModelMismatch(
            f"The MotionCtrl file '{file_name}' does not fit the motion model: {len(lacking)} of its {len(wanted)} temporal blocks "
            f"have no layer in the file ({lacking[0]}, …). The motion model is {spec}. Choose the motion model that it was trained "
            "with."
        )
