"""MotionClone: the motion of a video in a clip of something else, without training."""

import torch
from comfy_api.latest import io

from ...sampling.animate import with_inner_feature
from ...sampling.checks import check_latents
from ...sampling.motion_clone.feature import DEFAULT_END, DEFAULT_STRENGTH, MotionClone
from .. import sockets
from ..base import node


def _put_on(model, reference: dict, strength: float, start_percent: float, end_percent: float, up_block: int):
    latents: torch.Tensor = reference["samples"]
    check_latents(latents)
    return with_inner_feature(model, MotionClone(latents, strength, start_percent, end_percent, up_block))


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffMotionClone",
        display_name="Motion Clone",
        category="AnimateDiff/sampling",
        description=(
            "The motion of a video in a clip of something else, without training: temporal attention of the video guides that of "
            "the clip. Connect it behind Use Evolved Sampling. While it acts, each step takes two to three times as long."
        ),
        aliases=("MotionClone", "motion transfer", "reference video"),
        inputs=[
            sockets.BEHIND_EVOLVED,
            io.Latent.Input(
                "reference",
                tooltip="VAE Encode of the video: as many frames as the clip has, of its size.",
            ),
            io.Float.Input(
                "strength",
                default=DEFAULT_STRENGTH,
                min=0.0,
                max=100000.0,
                step=10.0,
                tooltip=(
                    "Raise it if the motion is not taken over, lower it if shapes break. The stronger, the more steps it needs: 20 "
                    "at least. 0: off."
                ),
            ),
            sockets.percent("start_percent", "From where in the sampling schedule on it acts."),
            sockets.percent(
                "end_percent",
                "Up to where in the sampling schedule it acts. The motion is decided early; later it costs time and details.",
                default=DEFAULT_END,
            ),
            io.Int.Input(
                "up_block",
                default=1,
                min=0,
                max=3,
                tooltip="Which of the motion model's up blocks is looked at. 0 is the coarsest; of fewer blocks the last one.",
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    )
]
