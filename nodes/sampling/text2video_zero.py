"""Text2Video-Zero: clips without a motion model."""

from comfy_api.latest import io

from ...sampling.animate import with_feature
from ...sampling.cross_frame.text2video_zero import Text2VideoZero
from .. import sockets
from ..base import node

MOST_PIXELS = 1024.0  # a frame: more than a picture of SD1.5 or SDXL is wide, with mirrored edges


def _put_on(model, motion_x: float, motion_y: float, delta_t: float, attention: float):
    return with_feature(model, Text2VideoZero(motion_x, motion_y, delta_t, attention))


def _motion(name: str, where: str) -> io.Input:
    return io.Float.Input(
        name,
        default=12.0,
        min=-MOST_PIXELS,
        max=MOST_PIXELS,
        step=0.5,
        tooltip=f"By how many pixels of the picture the scene moves {where} from frame to frame, to the nearest 8 in all.",
    )


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffText2VideoZero",
        display_name="Text2Video-Zero",
        category="AnimateDiff/sampling",
        description=(
            "Clips without a motion model: frames attend to the first one and begin as one picture that moves. Connect it to the "
            "MODEL of a checkpoint; batch_size of the empty latent is the number of frames."
        ),
        aliases=("zero-shot video", "cross-frame attention", "latent motion field"),
        inputs=[
            sockets.model("The MODEL of a checkpoint."),
            _motion("motion_x", "to the right"),
            _motion("motion_y", "down"),
            io.Float.Input(
                "delta_t",
                default=0.06,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip=(
                    "How far the first frame is denoised before it is moved, as a part of the schedule; as much noise of its own "
                    "each frame then gets. More leaves frames more freedom to differ. 0: the first frame is moved and nothing else."
                ),
            ),
            io.Float.Input(
                "attention",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the keys and values of self-attention is the first frame's. 0: off.",
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    )
]
