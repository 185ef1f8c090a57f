"""Motion Amount: more or less motion by one number."""

from comfy_api.latest import io

from ...sampling.animate import with_inner_feature
from ...sampling.motion_amount import AS_IT_WAS, MOST, STANDS_STILL, MotionAmount
from .. import sockets
from ..base import node
from ..values import at_least, at_most


def _put_on(model, amount: float):
    at_least("amount", amount, STANDS_STILL)
    at_most("amount", amount, MOST, "more was never measured")
    return with_inner_feature(model, MotionAmount(amount))


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffMotionAmount",
        display_name="Motion Amount",
        category="AnimateDiff/sampling",
        description=(
            "More or less motion, by one number: it changes how sharply frames attend to each other, and what their noise has in "
            "common. Connect it behind Use Evolved Sampling."
        ),
        aliases=("dynamic degree", "motion scale", "motion strength"),
        inputs=[
            sockets.BEHIND_EVOLVED,
            io.Float.Input(
                "amount",
                default=AS_IT_WAS,
                min=STANDS_STILL,
                max=MOST,
                step=0.05,
                tooltip="0 is nearly still, 1 as without this node, 2 the most.",
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    )
]
