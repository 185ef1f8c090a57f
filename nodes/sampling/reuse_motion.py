"""Reuse Motion: motion modules computed in some of the steps only."""

from comfy_api.latest import io

from ...sampling.animate import with_inner_feature
from ...sampling.reuse_motion import ReuseMotion
from .. import sockets
from ..base import node


def _put_on(model, every: int, start_percent: float, end_percent: float):
    return with_inner_feature(model, ReuseMotion(every, start_percent, end_percent))


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffReuseMotion",
        display_name="Reuse Motion",
        category="AnimateDiff/sampling",
        description=(
            "Saves time: what the motion model adds to the picture is kept for a few steps, as it changes little from one to the "
            "next. Connect it behind Use Evolved Sampling."
        ),
        aliases=("Pyramid Attention Broadcast", "cache", "speed"),
        inputs=[
            sockets.BEHIND_EVOLVED,
            io.Int.Input(
                "every",
                default=2,
                min=1,
                max=16,
                tooltip="The motion model is computed in one of so many steps, and what it gave is used in the others. 1: off.",
            ),
            sockets.percent(
                "start_percent",
                "From where in the sampling schedule on. What moves where is decided in the first steps.",
                default=0.1,
            ),
            sockets.percent(
                "end_percent",
                "Up to where in the sampling schedule.",
                default=0.9,
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    )
]
