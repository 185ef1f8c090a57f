"""AnimateLCM-I2V: an image encoder whose features motion modules start from, and the files that hold one.

AnimateLCM (Wang et al., arXiv 2402.00769), section 4.3, "image-to-video adapter". Attribute names are those of the
published file.
"""

import os
import re
from dataclasses import replace

import torch
from torch import nn

from ...host.patcher import make_patcher, operations, with_parts
from ..files.adjust import Adjustments
from ..files.errors import MotionModelFileError
from ..files.motion_model import interpret, load_motion_model
from ..files.reading import Contents, read_tensors
from ..layouts import MAX_FRAMES, Tensors
from ..network.positions import sinusoidal_table
from ..network.temporal import MotionModel
from ..spec import MotionModelSpec
from .network import ResidualBlock, with_weights

# The kind of part (host/patcher.py) that the encoder is of a motion model.
IMAGE_ENCODER = "image encoder"
ENCODER_KEY = re.compile(r"^(?:.*\.)?img_encoder\.")
FIRST_BLOCK = re.compile(r"^body\.(\d+)\.block1\.weight$")


class ImageEncoder(nn.Module):
    """``channels``: of each level; ``latent_channels``: of what it is given."""

    def __init__(self, latent_channels: int, channels: tuple[int, ...], dtype: torch.dtype | None = None):
        super().__init__()
        self.latent_channels, self.channels = latent_channels, channels
        self.conv_in = operations().Conv2d(latent_channels, channels[0], 3, padding=1, dtype=dtype)
        before = (channels[0], *channels)
        self.body = nn.ModuleList(
            ResidualBlock(before[level] if first else own, own, shrinks=first and level > 0, dtype=dtype)
            for level, own in enumerate(channels)
            for first in (True, False)
        )

    def forward(self, latents: torch.Tensor, frames: int, drift: float) -> list[torch.Tensor]:
        """Features of each level, ``(frames, channels, height, width)``; of one picture without drift ``(1, …)``.

        ``latents (frames or 1, latent channels, height, width)`` are in the UNet's scale. ``drift`` times a table of
        positions sets the frames apart.
        """
        x = self.conv_in(latents)
        if drift != 0.0:
            table = sinusoidal_table(frames, x.shape[1])[0].to(x)
            x = x + drift * table[:, :, None, None]
        features = []
        for first, second in zip(self.body[::2], self.body[1::2], strict=True):
            x = second(first(x))
            features.append(x)
        return features


def load_animatelcm_i2v(path: str, adjustments: Adjustments | None = None):
    """Of a file the motion model with its image encoder, and a model of the encoder alone.

    Both are patchers of a MotionModel; see ``host.patcher.parts``. Raises MotionModelFileError for a file that lacks either.
    """
    contents = read_tensors(path)
    spec, encoder = _encoder(path, contents)
    patcher = make_patcher(encoder, (load_image_encoder, (path,)))
    return (
        with_parts(load_motion_model(path, adjustments, contents=contents), {IMAGE_ENCODER: patcher}),
        with_parts(_encoder_only(spec), {IMAGE_ENCODER: patcher}),
    )


def load_image_encoder(path: str, disable_dynamic: bool = False):
    """The image encoder of a file: a patcher of an ImageEncoder. Raises MotionModelFileError for a file without one."""
    _, encoder = _encoder(path, read_tensors(path), disable_dynamic)
    return make_patcher(encoder, (load_image_encoder, (path,)), disable_dynamic)


def _encoder(path: str, contents: Contents, disable_dynamic: bool = False) -> tuple[MotionModelSpec, nn.Module]:
    file_name = os.path.basename(path)
    tensors, metadata = contents
    spec, _ = interpret(os.path.splitext(file_name)[0], tensors, metadata)
    encoder = {ENCODER_KEY.sub("", name): value for name, value in tensors.items() if ENCODER_KEY.match(name)}
    if not encoder or spec.layout != "AnimateLCM":
        raise MotionModelFileError(
            f"'{spec.name}' is no AnimateLCM-I2V file: it is of the kind {spec.layout}, or has no image encoder. "
            "Load it with AnimateDiff: Load Model, or choose a file such as AnimateLCM_sd15_i2v."
        )
    latent_channels, channels = _shape(encoder)
    return spec, with_weights(
        file_name,
        "an image encoder",
        lambda dtype: ImageEncoder(latent_channels, channels, dtype),
        encoder,
        disable_dynamic,
    )


def _shape(tensors: Tensors) -> tuple[int, tuple[int, ...]]:
    """The encoder's latent channels and those of its levels, as its tensors have them; what is lacking is told later."""
    blocks = {int(match[1]): len(value) for name, value in tensors.items() if (match := FIRST_BLOCK.match(name))}
    levels = tuple(blocks[block] for block in sorted(blocks) if block % 2 == 0)
    conv = tensors.get("conv_in.weight")
    return (conv.shape[1] if conv is not None and conv.ndim == 4 else 4), levels or (320, 640, 1280, 1280)


def _encoder_only(spec: MotionModelSpec, disable_dynamic: bool = False):
    """A motion model without temporal transformers, where the encoder of the motion model ``spec`` acts."""
    empty = replace(spec, mid=(), up=(), attention_blocks=0, max_frames=MAX_FRAMES, parameters=0)
    return make_patcher(MotionModel(empty).eval(), (_encoder_only, (spec,)), disable_dynamic)
