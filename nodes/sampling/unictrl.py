"""UniCtrl: consistent frames without training."""

from comfy_api.latest import io

from ...sampling.animate import with_feature
from ...sampling.cross_frame.unictrl import UniCtrl
from .. import sockets
from ..base import node


def _put_on(model, strength: float, motion_end_percent: float, start_percent: float, end_percent: float):
    return with_feature(model, UniCtrl(strength, motion_end_percent, start_percent, end_percent))


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffUniCtrl",
        display_name="UniCtrl",
        category="AnimateDiff/sampling",
        description=(
            "Frames keep one look: self-attention goes to the clip's first frame, and a second evaluation of the UNet keeps "
            "the motion. Connect it behind Use Evolved Sampling. Sampling takes twice as long while it acts."
        ),
        aliases=("consistency", "cross-frame attention"),
        inputs=[
            sockets.BEHIND_EVOLVED,
            io.Float.Input(
                "strength",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the keys and values is the first frame's. 0: off.",
            ),
            sockets.percent(
                "motion_end_percent",
                "Up to where in the sampling schedule the motion is that without UniCtrl. 0: never, which costs no time.",
                default=1.0,
            ),
            sockets.percent("start_percent", "From where in the sampling schedule on it acts."),
            sockets.percent("end_percent", "Up to where in the sampling schedule it acts.", default=1.0),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    )
]
