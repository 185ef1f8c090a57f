"""One node for clips that loop."""

from dataclasses import replace

from comfy_api.latest import io

from ...sampling.sample_settings import SampleSettings
from ...sampling.windows.seamless_loop import matched_noise, seamless_windows
from .. import sockets
from ..base import node
from ..values import at_least, at_most


def _loop(
    context_length: int, context_overlap: int, shared_noise: float, sample_settings: SampleSettings | None = None
) -> io.NodeOutput:
    at_least("shared_noise", shared_noise, 0)
    at_most("shared_noise", shared_noise, 1, "1 is the same noise for all frames")
    settings = replace(sample_settings or SampleSettings(), noise=matched_noise(shared_noise))
    return io.NodeOutput((seamless_windows(context_length, context_overlap),), settings)


NODES = [
    node(
        _loop,
        node_id="AnimateDiffSeamlessLoop",
        display_name="Seamless Loop",
        category="AnimateDiff",
        description="For clips whose end goes over into their beginning: shared windows that begin all over the clip, and matching noise. "
        "Connect both.",
        aliases=("closed loop", "perfect loop"),
        inputs=[
            io.Int.Input(
                "context_length",
                default=16,
                min=1,
                max=128,
                tooltip="How many frames the motion model sees at once. Clips up to this length loop best: they need no overlap.",
            ),
            io.Int.Input(
                "context_overlap",
                default=4,
                min=0,
                max=128,
                tooltip="How many frames neighbouring windows of a longer clip share. A quarter of the length is usual.",
            ),
            io.Float.Input(
                "shared_noise",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the noise is the same for all frames: steadier, and with less motion. At 0 things may leap.",
            ),
            sockets.SampleSettings.Input(
                "sample_settings", optional=True, tooltip="Other settings to keep. Their noise is replaced."
            ),
        ],
        outputs=[
            sockets.ContextOptions.Output("CONTEXT_OPTS"),
            sockets.SampleSettings.Output("SAMPLE_SETTINGS"),
        ],
    )
]
