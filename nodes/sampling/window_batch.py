"""Several context windows in one batch."""

from comfy_api.latest import io

from ...sampling.windows.at_once import AUTOMATIC
from ...sampling.windows.context import Contexts, with_windows_at_once
from .. import sockets
from ..base import node

MOST = 128


def _put_on(context_opts: Contexts, windows_at_once: int) -> Contexts:
    return with_windows_at_once(context_opts, int(windows_at_once))


NODES = [
    node(
        _put_on,
        node_id="AnimateDiffWindowBatch",
        display_name="Windows in One Batch",
        category="AnimateDiff/context",
        description=(
            "Sends several context windows through the UNet together instead of one after the other: the same clip, for more "
            "memory. For GPUs that one window does not keep busy."
        ),
        aliases=("context batch size", "parallel windows"),
        inputs=[
            sockets.ContextOptions.Input("context_opts", tooltip="The context options whose windows these are."),
            io.Int.Input(
                "windows_at_once",
                default=AUTOMATIC,
                min=0,
                max=MOST,
                tooltip=(
                    "How many windows of equal length go through the UNet together. 0: as many as fit into the memory that is free, "
                    "at each step. 1: one by one."
                ),
            ),
        ],
        outputs=[sockets.ContextOptions.Output("CONTEXT_OPTS")],
    )
]
