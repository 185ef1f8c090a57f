"""AnimateLCM-I2V files: an AnimateLCM motion model and an image encoder in one."""

import os
from dataclasses import dataclass

from ..files.adjust import Adjustments
from ..files.errors import MotionModelFileError
from ..files.motion_model import interpret, load_motion_model
from ..files.numbers import refuse_impossible_numbers
from ..files.reading import read_tensors

ENCODER = "img_encoder."


@dataclass(frozen=True)
class ImageEncoder:
    """The image encoder of a file, without its motion modules. Not built yet: it can be handed on, but not applied."""

    path: str

    @property
    def model(self):
        raise ValueError(
            "The encoder_only output of Load AnimateLCM-I2V Model cannot be applied yet: image encoders are not built yet. "
            "Connect its output MOTION_MODEL instead."
        )

    clone = model  # asked for first where there are MotionLoRAs


def load_animatelcm_i2v(path: str, adjustments: Adjustments | None = None):
    """The motion model and the ImageEncoder of a file. Raises MotionModelFileError for one that lacks either."""
    file_name = os.path.basename(path)
    tensors, metadata = read_tensors(path)
    spec, _ = interpret(os.path.splitext(file_name)[0], tensors, metadata)
    encoder = {name: value for name, value in tensors.items() if ENCODER in name}
    if not encoder or spec.layout != "AnimateLCM":
        raise MotionModelFileError(
            f"'{spec.name}' is no AnimateLCM-I2V file: it is of the kind {spec.layout}, or has no image encoder. "
            "Load it with Load AnimateDiff Model, or choose a file such as AnimateLCM_sd15_i2v."
        )
    refuse_impossible_numbers(file_name, encoder)
    return load_motion_model(path, adjustments), ImageEncoder(path)
