"""Motion strength over the sampling run and over the frames, in one node."""

from comfy_api.latest import io

from ...motion_models.network.strength import HOLD, LINEAR
from ...sampling.keyframes import chained
from ...sampling.motion.applied import Keyframe
from ...sampling.motion.over_run import EFFECT, SCALE, keyframes
from ...scheduling import strengths as schedules
from .. import sockets
from ..base import node


def _keyframes(
    over_run: str,
    over_frames: str,
    interpolation: str,
    acts_on: str,
    prev_ad_keyframes: tuple[Keyframe, ...] = (),
) -> tuple[Keyframe, ...]:
    run = schedules.strength_schedule("over_run", over_run, interpolation) if over_run.strip() else None
    frames = schedules.frame_strengths("over_frames", over_frames, interpolation) if over_frames.strip() else None
    return chained(keyframes(run, frames, acts_on), prev_ad_keyframes)


NODES = [
    node(
        _keyframes,
        node_id="AnimateDiffMotionStrength",
        display_name="Motion Strength",
        category="AnimateDiff",
        description="How strong the motion is, over the sampling run and over the frames: keyframes from two lines of text.",
        aliases=("motion schedule", "keyframes"),
        inputs=[
            io.String.Input(
                "over_run",
                default="0.0: 1.0, 0.5: 0.8",
                multiline=True,
                tooltip="Pairs of percent: strength over the sampling run (0 is pure noise, 1 the finished clip). Empty: 1.",
            ),
            io.String.Input(
                "over_frames",
                default="",
                multiline=True,
                tooltip="Pairs of frame: strength (frame 0 is the first), such as 0: 1.0, 15: 0.0. Both multiply. Empty: all alike.",
            ),
            io.Combo.Input(
                "interpolation",
                options=[HOLD, LINEAR],
                default=HOLD,
                tooltip="Between two pairs: the strength of the earlier one (hold) or a straight line (linear).",
            ),
            io.Combo.Input(
                "acts_on",
                options=[SCALE, EFFECT],
                default=SCALE,
                tooltip="scale: how strongly frames attend to each other, more or less motion. effect: how much of the motion model "
                "reaches the picture.",
            ),
            sockets.Keyframes.Input(
                "prev_ad_keyframes",
                optional=True,
                tooltip="Keyframes that count besides, such as those of the other kind.",
            ),
        ],
        outputs=[sockets.Keyframes.Output("AD_KEYFRAMES")],
    )
]
