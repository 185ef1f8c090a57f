"""CameraCtrl: an encoder of a camera's rays, and the layers that merge what it finds into temporal attention.

He et al., "CameraCtrl" (arXiv 2404.02101), section 3.3 and figure 2. Attribute names below ``encoder`` are those of the
published file.
"""

import os
import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...host.patcher import make_patcher, operations, with_parts
from ..files.adjust import Adjustments
from ..files.errors import MotionModelFileError
from ..files.motion_model import load_motion_model
from ..files.reading import read_tensors
from ..layouts import MAX_FRAMES, Tensors
from ..network.call import MotionInputs
from ..network.injection import MotionModelMismatch
from ..network.temporal import TemporalBlock, positions_at_once
from ..network.views import Views
from ..spec import MotionModelSpec
from .network import ResidualBlock, with_weights

# The kind of part (host/patcher.py) that this is of a motion model.
CAMERA_CONTROL = "camera control"
PIXELS = 8  # of the picture, side by side, that meet in one of the latents
RAY_CHANNELS = 6
HEADS = 8
ENCODER_KEY = re.compile(r"^(?:.*\.)?(encoder_(?:conv_in|down_conv_blocks|down_attention_blocks)\..*)$")
MERGE_KEY = re.compile(
    r"^(?:.*\.)?((?:down|up)_blocks\..*\.attention_blocks\.\d+)\.processor\.qkv_merge\.(weight|bias)$"
)
FIRST_CONV = re.compile(r"^encoder_down_conv_blocks\.(\d+)\.0\.block1\.weight$")
TABLE = "encoder_down_attention_blocks.0.0.attention_blocks.0.pos_encoder.pe"


class PoseEncoder(nn.Module):
    """``channels``: of each level. ``max_frames``: as many as its temporal attention has positions for."""

    def __init__(self, channels: tuple[int, ...], max_frames: int, dtype: torch.dtype | None = None):
        super().__init__()
        self.max_frames = max_frames
        spec = MotionModelSpec("pose encoder", "AnimateDiff", "v1", (), (), (), 1, HEADS, max_frames, 0)
        before = (channels[0], *channels)
        self.encoder_conv_in = operations().Conv2d(RAY_CHANNELS * PIXELS**2, channels[0], 3, padding=1, dtype=dtype)
        self.encoder_down_conv_blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    ResidualBlock(before[level], own, shrinks=level > 0, dtype=dtype),
                    ResidualBlock(own, own, False, dtype),
                ]
            )
            for level, own in enumerate(channels)
        )
        self.encoder_down_attention_blocks = nn.ModuleList(
            nn.ModuleList([TemporalBlock(own, spec, dtype) for _ in range(2)]) for own in channels
        )

    def forward(self, rays: torch.Tensor, views: Views | None = None) -> list[torch.Tensor]:
        """``(frames, 6 * 64, height, width)`` of packed rays -> features of each level, ``(frames, channels, …)``.

        ``views`` divide the frames where there are more than ``max_frames``.
        """
        x, features = self.encoder_conv_in(rays), []
        convs: Any
        attentions: Any
        for convs, attentions in zip(self.encoder_down_conv_blocks, self.encoder_down_attention_blocks, strict=True):
            for conv, attention in zip(convs, attentions, strict=True):
                x = _along_frames(attention, conv(x), MotionInputs(views=views))
            features.append(x)
        return features


def packed(rays: torch.Tensor) -> torch.Tensor:
    """``(frames, 6, 8 * height, 8 * width)`` -> ``(frames, 6 * 64, height, width)``: the encoder's input."""
    return functional.pixel_unshuffle(rays, PIXELS)


def _along_frames(block: TemporalBlock, x: torch.Tensor, inputs: MotionInputs) -> torch.Tensor:
    """``(frames, channels, height, width)`` -> same shape."""
    frames, channels, height, width = x.shape
    y = x.flatten(2).permute(2, 0, 1).contiguous()
    parts = y.split(positions_at_once(y.shape[0], frames, channels, y.device))
    y = torch.cat([block(part, inputs, ()) for part in parts])
    return y.permute(1, 2, 0).reshape(frames, channels, height, width)


class CameraControl(nn.Module):
    """``merges``: by the name of the temporal attention that each belongs to (with / for a dot), its channels."""

    def __init__(
        self,
        channels: tuple[int, ...],
        max_frames: int,
        merges: dict[str, int],
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = channels
        self.encoder = PoseEncoder(channels, max_frames, dtype)
        self.merges = nn.ModuleDict({name: operations().Linear(c, c, dtype=dtype) for name, c in merges.items()})

    def merge(self, attention: str) -> Any:
        """The layer for the temporal attention of that name."""
        return self.merges[_key(attention)]


def _key(attention: str) -> str:
    return attention.replace(".", "/")  # names of modules may not hold dots


def merging_attentions(spec: MotionModelSpec) -> dict[str, tuple[int, int]]:
    """The temporal attentions of a motion model into which features are merged: name -> level of the features, channels.

    The first of each module; none in the middle. Levels count from the shallowest.
    """
    deepest = len(spec.up) - 1
    return {
        f"{part}_blocks.{i}.motion_modules.{j}.temporal_transformer.transformer_blocks.0.attention_blocks.0": (
            i if part == "down" else deepest - i,
            channels,
        )
        for part, levels in (("down", spec.down), ("up", spec.up))
        for i, level in enumerate(levels)
        for j, channels in enumerate(level)
    }


def load_with_camera_control(path: str, camera_path: str, adjustments: Adjustments | None = None):
    """A motion model with its camera control (``host.patcher.parts``). Raises MotionModelFileError, MotionModelMismatch."""
    camera = load_camera_control(camera_path)
    patcher = load_motion_model(path, adjustments)
    _check_fit(patcher.model.spec, camera.model, os.path.basename(camera_path))
    return with_parts(patcher, {CAMERA_CONTROL: camera})


def load_camera_control(path: str, disable_dynamic: bool = False):
    """A patcher of a CameraControl. Raises MotionModelFileError for a file that is none."""
    file_name = os.path.basename(path)
    tensors, _ = read_tensors(path)
    encoder = {f"encoder.{match[1]}": value for name, value in tensors.items() if (match := ENCODER_KEY.match(name))}
    found = ((MERGE_KEY.match(name), value) for name, value in tensors.items())
    merges = {f"merges.{_key(match[1])}.{match[2]}": value for match, value in found if match}
    if not encoder or not merges:
        raise MotionModelFileError(
            f"'{file_name}' is no CameraCtrl file: it has no {'pose encoder' if not encoder else 'layers that merge poses'}. "
            "Choose one for camera_ctrl, such as CameraCtrl_pruned.safetensors, and a motion model for model_name."
        )
    channels, max_frames = _shape(file_name, encoder)
    widths = {name.split(".")[1]: value.shape[0] for name, value in merges.items() if name.endswith(".bias")}
    network = with_weights(
        file_name,
        "a CameraCtrl file",
        lambda dtype: CameraControl(channels, max_frames, widths, dtype),
        encoder | merges,
        disable_dynamic,
    )
    return make_patcher(network, (load_camera_control, (path,)), disable_dynamic)


def _shape(file_name: str, encoder: Tensors) -> tuple[tuple[int, ...], int]:
    """The channels of each level, and the frames of the tables. Raises MotionModelFileError where they make no sense."""
    levels = {
        int(match[1]): value.shape[0]
        for name, value in encoder.items()
        if (match := FIRST_CONV.match(name.removeprefix("encoder.")))
    }
    channels = tuple(levels[level] for level in sorted(levels))
    table = encoder.get(f"encoder.{TABLE}")
    frames = table.shape[1] if table is not None and table.ndim == 3 else 0
    if not channels or any(c == 0 or c % HEADS for c in channels) or not 1 <= frames <= MAX_FRAMES:
        raise MotionModelFileError(
            f"'{file_name}' has a pose encoder of {', '.join(map(str, channels)) or 'no'} channels and {frames:,} frames, which "
            f"makes no sense: channels must be multiples of {HEADS}, frames 1 to {MAX_FRAMES:,}. Download the file again."
        )
    return channels, frames


def _check_fit(spec: MotionModelSpec, camera: CameraControl, file_name: str) -> None:
    """Raise MotionModelMismatch unless ``camera`` was made for motion models of this shape."""
    wanted = merging_attentions(spec)
    lacking = [name for name in wanted if _key(name) not in camera.merges]
    other = [name for name, (_, c) in wanted.items() if name not in lacking and camera.merge(name).weight.shape[0] != c]
    if camera.channels != spec.levels or lacking or other:
        raise MotionModelMismatch(
            f"The CameraCtrl file '{file_name}' does not fit the motion model: it is for one of "
            f"{'/'.join(map(str, camera.channels))} channels with {len(camera.merges)} modules, and lacks "
            f"{len(lacking) + len(other)} of the modules that this one has. The motion model is {spec}. Choose a motion model for "
            "Stable Diffusion 1.5, such as v3_sd15_mm."
        )
