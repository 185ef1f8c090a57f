"""More frames for a clip: the motion model fills in what lies between."""

from comfy_api.latest import io

from ...sampling.in_between import interleaved
from ..base import node


def _in_between(samples: dict, between: int, loop: bool) -> io.NodeOutput:
    latents, mask = interleaved(samples["samples"], int(between), loop)
    return io.NodeOutput({"samples": latents, "noise_mask": mask}, len(latents))


NODES = [
    node(
        _in_between,
        node_id="AnimateDiffInBetweenFrames",
        display_name="In-Between Frames",
        category="AnimateDiff/extras",
        description=(
            "Puts new frames between the frames of a clip. A KSampler behind it, with the animated MODEL and denoise 0.4 to 0.7, "
            "fills them in and keeps the others."
        ),
        aliases=("frame interpolation", "temporal upsampling"),
        inputs=[
            io.Latent.Input("samples", tooltip="A finished clip."),
            io.Int.Input(
                "between",
                default=1,
                min=1,
                max=15,
                tooltip="How many new frames go between two. 1 doubles the frame rate, 3 makes it four times as high.",
            ),
            io.Boolean.Input("loop", default=False, tooltip="Also between the last frame and the first."),
        ],
        outputs=[
            io.Latent.Output("LATENT", tooltip="The longer clip, for latent_image of KSampler."),
            io.Int.Output("frames", tooltip="How many there are now."),
        ],
    )
]
