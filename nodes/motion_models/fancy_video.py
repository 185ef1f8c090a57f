"""FancyVideo: motion models whose first frame is given."""

from comfy_api.latest import io

from ...host.patcher import parts
from ...motion_models.adapters.image_inputs import KINDS
from ...motion_models.layouts import FANCY_VIDEO
from ...sampling.adapters.fancy_video import FancyVideo
from ...sampling.motion.applied import MotionModels
from ..base import node
from .apply import FURTHER, MOTION_MODEL, OUTPUTS, RANGE, STRENGTHS, applied


def _apply(motion_model, image, vae, fps: float, motion_score: float, **shared) -> MotionModels:
    network = parts(motion_model).get(KINDS[FANCY_VIDEO])
    if network is None:
        raise ValueError(
            f"The motion model '{motion_model.model.spec.name}' is no FancyVideo model, so it takes no picture this way. Load a "
            "FancyVideo file with AnimateDiff: Load Model; or apply this one with AnimateDiff: Apply Model."
        )
    return applied(motion_model, adapters=(FancyVideo(network, image, vae, fps, motion_score),), **shared)


NODES = [
    node(
        _apply,
        node_id="AnimateDiffApplyFancyVideo",
        display_name="Apply FancyVideo Model",
        category="AnimateDiff/FancyVideo",
        description="Applies a FancyVideo motion model: the clip goes on from a picture, its first frame.",
        aliases=("image to video",),
        inputs=[
            MOTION_MODEL,
            io.Image.Input("image", tooltip="The first frame; of several pictures, the first frames."),
            io.Vae.Input("vae", tooltip="The VAE of the checkpoint that samples the clip."),
            io.Float.Input(
                "fps",
                default=25.0,
                min=0.0,
                max=1000.0,
                step=0.1,
                tooltip="Frames per second that the model aims at: how fast things move from frame to frame.",
            ),
            io.Float.Input(
                "motion_score",
                default=3.0,
                min=0.0,
                max=1000.0,
                step=0.1,
                tooltip="How much moves, as the model's training counted it: more is livelier.",
            ),
            *RANGE,
            *STRENGTHS,
            *FURTHER,
        ],
        outputs=OUTPUTS,
    )
]
