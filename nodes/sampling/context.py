"""Context options: sliding windows over clips that are longer than a motion model can handle, and views."""

import logging
from collections.abc import Callable

from comfy_api.latest import io

from ...sampling.keyframes import chained
from ...sampling.windows.context import Context, Contexts, ViewOptions
from ...sampling.windows.fuse import NAMES, RELATIVE
from ...sampling.windows.one_motion import OneMotionOptions
from ...sampling.windows.schedules import (
    ALL_FRAMES,
    BATCHED,
    LOOPED_UNIFORM,
    STANDARD_STATIC,
    STANDARD_UNIFORM,
    WindowOptions,
)
from .. import sockets
from ..base import Node, node
from ..values import at_least, at_most

CATEGORY = "AnimateDiff/context"
ViewOpts = sockets.Socket(
    "VIEW_OPTS", "For view_opts of context options, or view_opts_req of Context Options: Views Only."
)

SHOWN = NAMES[0]  # by the widget of a fuse method without a default

# Of all frames of a clip, or of the frames of a view: names differ in their prefix only.
LENGTH = "How many frames the motion model sees at once. 16 suits most."
OVERLAP = "How many frames neighbours share. A quarter of the length is usual."
STRIDE = "Above 1, windows of every 2nd, 4th, … frame are added, which tie the clip together."


def _length(prefix: str) -> io.Input:
    return io.Int.Input(f"{prefix}_length", default=16, min=1, max=128, tooltip=LENGTH)


def _overlap(prefix: str) -> io.Input:
    return io.Int.Input(f"{prefix}_overlap", default=4, min=0, max=128, tooltip=OVERLAP)


def _stride(prefix: str) -> io.Input:
    return io.Int.Input(f"{prefix}_stride", default=1, min=1, max=32, tooltip=STRIDE)


def _closed_loop() -> io.Input:
    return io.Boolean.Input("closed_loop", default=False, tooltip="Also tie the end of the clip to its beginning.")


def _fuse(relative: bool, default: str | None = None, left_out: str = SHOWN) -> io.Input:
    """``left_out``: what an API prompt without it gets."""
    names = [name for name in NAMES if relative or name != RELATIVE]
    tooltip = "How much each frame of a window counts where windows overlap."
    if left_out != (default or SHOWN):
        tooltip += f" API prompts that leave it out get {left_out}."
    return io.Combo.Input("fuse_method", options=names, default=default, optional=True, tooltip=tooltip)


def _chosen_fuse(fuse_method: str | None, left_out: str, shown: str = SHOWN) -> str:
    """The fuse method of a node. Tells in the log where a prompt leaves it out and gets another than the widget shows."""
    if fuse_method is None and left_out != shown:
        logging.warning(
            "[AnimateDiff] fuse_method is left out, so windows are blended by %s, as prompts without it have always been; the "
            "widget shows %s. Write fuse_method into the prompt to choose.",
            left_out,
            shown,
        )
    return left_out if fuse_method is None else fuse_method


def _equal() -> io.Input:
    return io.Boolean.Input(
        "use_on_equal_length", default=False, optional=True, tooltip="Also act if the clip is just as long as a window."
    )


def _scheduling() -> list[io.Input]:
    return [
        sockets.percent(
            "start_percent",
            "From where in the sampling schedule on these options count; before that, those of prev_context.",
            optional=True,
        ),
        sockets.guarantee_steps(optional=True),
        sockets.ContextOptions.Input("prev_context", optional=True, tooltip="Context options that count before these."),
    ]


SHARED = (
    "For long clips: windows inside temporal attention only, so that all else is computed once for each frame, and one motion "
    "through all of them."
)
VIEW_OPTIONS = ViewOpts.Input("view_opts", optional=True, tooltip="Divide each window again, inside the motion model.")


def _context_of(schedule: str, fuse: str, shown: str = SHOWN) -> Callable:
    """A node's work. ``fuse`` is what an API prompt gets that leaves the optional fuse_method out, ``shown`` the widget's."""

    def run(
        context_length: int = 0,
        context_overlap: int = 0,
        context_stride: int = 1,
        closed_loop: bool = False,
        fuse_method: str | None = None,
        use_on_equal_length: bool = False,
        start_percent: float = 0.0,
        guarantee_steps: int = 1,
        prev_context: Contexts = (),
        view_opts: ViewOptions | None = None,
        view_opts_req: ViewOptions | None = None,
        context_schedule: str = "uniform",  # has no effect
    ) -> Contexts:
        context = Context(
            windows=WindowOptions(schedule, context_length, context_overlap, context_stride, closed_loop),
            fuse=_chosen_fuse(fuse_method, fuse, shown),
            use_on_equal_length=use_on_equal_length,
            start_percent=start_percent,
            guarantee_steps=guarantee_steps,
            views=view_opts_req or view_opts,
        )
        return chained((context,), prev_context)

    return run


def _shared(
    context_length: int,
    context_overlap: int,
    schedule: str,
    one_motion: float,
    cut_off: float,
    one_motion_end_percent: float,
    frames_at_once: int,
    skips_in_ram: bool,
    fuse_method: str = "pyramid",
    start_percent: float = 0.0,
    guarantee_steps: int = 1,
    prev_context: Contexts = (),
) -> Contexts:
    at_least("one_motion", one_motion, 0)
    at_most("one_motion", one_motion, 1, "at 1 the whole clip decides all that is slow")
    at_least("cut_off", cut_off, 0)
    at_most("cut_off", cut_off, 1, "at 1 the whole clip decides everything")
    closed = schedule == LOOPED_UNIFORM
    windows = WindowOptions(schedule, context_length, context_overlap, closed_loop=closed)
    one = OneMotionOptions(one_motion, cut_off, one_motion_end_percent) if one_motion else None
    context = Context(
        windows=WindowOptions(ALL_FRAMES, 0),
        fuse="flat",
        start_percent=start_percent,
        guarantee_steps=guarantee_steps,
        views=ViewOptions(windows, fuse_method, shared=True, one_motion=one),
        chunk=frames_at_once,
        skips_in_ram=skips_in_ram,
    )
    return chained((context,), prev_context)


def _views_of(schedule: str, fuse: str) -> Callable:
    def run(
        view_length: int,
        view_overlap: int,
        view_stride: int = 1,
        closed_loop: bool = False,
        fuse_method: str | None = None,
        use_on_equal_length: bool = False,
    ) -> ViewOptions:
        windows = WindowOptions(schedule, view_length, view_overlap, view_stride, closed_loop)
        return ViewOptions(windows, _chosen_fuse(fuse_method, fuse), use_on_equal_length)

    return run


def _context_node(run: Callable, *, name: str, old_name: str, category: str = CATEGORY, **fields) -> type[Node]:
    return node(
        run,
        display_name=f"Context Options: {name}",
        old_name=f"Context Options\u25c6{old_name}",
        aliases=("sliding window",),
        category=category,
        outputs=[sockets.ContextOptions.Output("CONTEXT_OPTS")],
        **fields,
    )


def _view_node(run: Callable, *, name: str, **fields) -> type[Node]:
    return node(
        run,
        display_name=f"View Options: {name}",
        old_name=f"View Options\u25c6{name}",
        category=f"{CATEGORY}/views",
        description="Divides the frames of a window inside the motion model, which then sees fewer at once.",
        outputs=[ViewOpts.Output("VIEW_OPTS")],
        **fields,
    )


NODES = [
    _context_node(
        _context_of(STANDARD_STATIC, "pyramid"),
        node_id="ADE_StandardStaticContextOptions",
        name="Standard Static",
        old_name="Standard Static",
        description="Windows that stay in place: the fewest, and the same at every step.",
        inputs=[_length("context"), _overlap("context"), _fuse(relative=True), _equal(), *_scheduling(), VIEW_OPTIONS],
    ),
    _context_node(
        _context_of(STANDARD_UNIFORM, "pyramid"),
        node_id="ADE_StandardUniformContextOptions",
        name="Standard Uniform",
        old_name="Standard Uniform",
        description="Windows that move from step to step, so that seams do not stay in one place.",
        inputs=[
            _length("context"),
            _stride("context"),
            _overlap("context"),
            _fuse(relative=False),
            _equal(),
            *_scheduling(),
            VIEW_OPTIONS,
        ],
    ),
    _context_node(
        _context_of(LOOPED_UNIFORM, "flat"),
        node_id="ADE_LoopedUniformContextOptions",
        name="Looped Uniform",
        old_name="Looped Uniform",
        description="Moving windows that run over the end of the clip into its beginning: for clips that loop.",
        inputs=[
            _length("context"),
            _stride("context"),
            _overlap("context"),
            _closed_loop(),
            _fuse(relative=False, left_out="flat"),
            _equal(),
            *_scheduling(),
            VIEW_OPTIONS,
        ],
    ),
    _context_node(
        _context_of(LOOPED_UNIFORM, "flat", shown="flat"),
        node_id="ADE_AnimateDiffUniformContextOptions",
        name="Uniform (Legacy)",
        old_name="Looped Uniform",
        category=f"{CATEGORY}/legacy",
        description="The same as Looped Uniform, for workflows made with it.",
        inputs=[
            _length("context"),
            _stride("context"),
            _overlap("context"),
            io.Combo.Input("context_schedule", options=["uniform"], tooltip="Has no effect."),
            _closed_loop(),
            _fuse(relative=False, default="flat", left_out="flat"),
            _equal(),
            *_scheduling(),
            VIEW_OPTIONS,
        ],
    ),
    _context_node(
        _context_of(BATCHED, "flat", shown="flat"),
        node_id="ADE_BatchedContextOptions",
        name="Batched",
        old_name="Batched [Non-AD]",
        description="Windows side by side, without overlap: several clips after each other.",
        inputs=[_length("context"), *_scheduling()],
    ),
    _context_node(
        _context_of(ALL_FRAMES, "flat", shown="flat"),
        node_id="ADE_ViewsOnlyContextOptions",
        name="Views Only",
        old_name="Views Only [VRAM\u21c8]",
        description="All frames go through the UNet together; only the motion model sees them in views. Needs most memory.",
        inputs=[ViewOpts.Input("view_opts_req", tooltip="How the motion model sees the frames."), *_scheduling()],
    ),
    node(
        _shared,
        node_id="AnimateDiffSharedWindowsContextOptions",
        display_name="Context Options: Shared Windows",
        category=CATEGORY,
        description=SHARED,
        aliases=("sliding window", "long video", "FreeLong", "one motion"),
        inputs=[
            _length("context"),
            io.Int.Input(
                "context_overlap",
                default=8,
                min=0,
                max=128,
                tooltip="How many frames neighbours share. It adds to temporal attention only: half of the length is a good choice.",
            ),
            io.Combo.Input(
                "schedule",
                options=[STANDARD_STATIC, STANDARD_UNIFORM, LOOPED_UNIFORM],
                tooltip="Windows that stay in place; that move from step to step; or that run over the end into the beginning, for "
                "clips that loop.",
            ),
            io.Float.Input(
                "one_motion",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How far the whole clip decides what changes slowly, so that one motion goes on through it. 0 leaves each window "
                "a motion of its own.",
            ),
            io.Float.Input(
                "cut_off",
                default=0.25,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="What counts as slow: up to this part of the highest frequency.",
            ),
            sockets.percent(
                "one_motion_end_percent",
                "Where in the sampling schedule one_motion stops. What moves where is decided early, details late.",
                default=1.0,
            ),
            io.Int.Input(
                "frames_at_once",
                default=0,
                min=0,
                max=sockets.LARGEST,
                tooltip=(
                    "How many frames the spatial layers compute at a time, and then one prompt after the other. 0: as many as fit "
                    "into the memory that is free."
                ),
            ),
            io.Boolean.Input(
                "skips_in_ram",
                default=False,
                tooltip=(
                    "Keep the UNet's skip connections in the computer's memory instead of the card's, which takes time: for clips "
                    "that do not fit even with a small frames_at_once."
                ),
            ),
            _fuse(relative=False, default="pyramid"),
            *_scheduling(),
        ],
        outputs=[sockets.ContextOptions.Output("CONTEXT_OPTS")],
    ),
    _view_node(
        _views_of(STANDARD_STATIC, "flat"),
        node_id="ADE_StandardStaticViewOptions",
        name="Standard Static",
        inputs=[_length("view"), _overlap("view"), _fuse(relative=False, left_out="flat")],
    ),
    _view_node(
        _views_of(STANDARD_UNIFORM, "pyramid"),
        node_id="ADE_StandardUniformViewOptions",
        name="Standard Uniform",
        inputs=[_length("view"), _stride("view"), _overlap("view"), _fuse(relative=False)],
    ),
    _view_node(
        _views_of(LOOPED_UNIFORM, "pyramid"),
        node_id="ADE_LoopedUniformViewOptions",
        name="Looped Uniform",
        inputs=[_length("view"), _stride("view"), _overlap("view"), _closed_loop(), _fuse(relative=False), _equal()],
    ),
]
