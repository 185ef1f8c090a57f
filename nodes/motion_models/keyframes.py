"""Keyframes of motion models: what changes at a place in the sampling schedule."""

from comfy_api.latest import io

from ...sampling.keyframes import chained
from ...sampling.motion.applied import Keyframe
from ...sampling.strength.multival import Multival
from ...sampling.strength.per_block import PerBlock
from .. import sockets
from ..base import Node, node


def _keyframe(
    start_percent: float,
    prev_ad_keyframes: tuple[Keyframe, ...] = (),
    scale_multival: Multival | None = None,
    effect_multival: Multival | None = None,
    per_block_replace: PerBlock | None = None,
    inherit_missing: bool = True,
    guarantee_steps: int = 1,
    **of_adapters,
) -> tuple[Keyframe, ...]:
    keyframe = Keyframe(
        start_percent,
        scale_multival,
        effect_multival,
        per_block_replace,
        inherit_missing,
        guarantee_steps,
        of_adapters,
    )
    return chained((keyframe,), prev_ad_keyframes)


def keyframe_node(*, own: io.Input, **fields) -> type[Node]:
    """A keyframe with one input besides scale and effect: ``own``, whose value adapters find by its name."""
    return node(
        _keyframe,
        inputs=[
            sockets.percent("start_percent", "From where in the sampling schedule on it counts."),
            sockets.Keyframes.Input(
                "prev_ad_keyframes", optional=True, tooltip="Keyframes that count besides this one."
            ),
            sockets.Multival.Input("scale_multival", optional=True, tooltip="Multiplies the scale of the Apply node."),
            sockets.Multival.Input(
                "effect_multival", optional=True, tooltip="Multiplies the effect of the Apply node."
            ),
            own,
            io.Boolean.Input(
                "inherit_missing",
                default=True,
                optional=True,
                tooltip="What is not connected here keeps the value of the keyframe before; else it is 1.",
            ),
            sockets.guarantee_steps(optional=True),
        ],
        outputs=[sockets.Keyframes.Output("AD_KEYFRAMES")],
        **fields,
    )


NODES = [
    keyframe_node(
        node_id="ADE_AnimateDiffKeyframe",
        display_name="AnimateDiff Keyframe",
        old_name="AnimateDiff Keyframe",
        category="AnimateDiff",
        description="Changes scale and effect of a motion model at a place in the sampling schedule.",
        own=sockets.PerBlock.Input("per_block_replace", optional=True, tooltip="Replaces per_block of the Apply node."),
    )
]
