"""Context extras: what ties the windows of a clip together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.latest import io

from ...sampling.context_extras.context_ref import ContextRef, RefKeyframe, Tune
from ...sampling.context_extras.extras import ContextExtras
from ...sampling.context_extras.modes import ALL_AT_FIRST, First, Indexes, Mode, Sliding
from ...sampling.context_extras.naive_reuse import NaiveReuse, ReuseKeyframe
from ...sampling.keyframes import chained, evenly, log_keyframes
from ...sampling.schedules.interpolation import interpolated
from ...sampling.strength.multival import Multival
from ...sampling.windows.context import Contexts, with_extras
from ...scheduling.frame_numbers import parse_frame_numbers
from .. import sockets
from ..base import Node, node
from ..values import at_least, check_keyframes

CATEGORY = "AnimateDiff/context/extras"
Extras = sockets.Socket("CONTEXT_EXTRAS", "For Set Context Extras, or prev_extras of another context extra.")
RefMode = sockets.Socket(
    "CONTEXTREF_MODE", "For contextref_mode of Context Extras: ContextRef, or mode_replace of a keyframe."
)
RefTune = sockets.Socket(
    "CONTEXTREF_TUNE", "For contextref_tune of Context Extras: ContextRef, or tune_replace of a keyframe."
)
RefKeyframes = sockets.Socket(
    "CONTEXTREF_KEYFRAME", "For contextref_kf of Context Extras: ContextRef, or prev_kf of another keyframe."
)
ReuseKeyframes = sockets.Socket(
    "NAIVEREUSE_KEYFRAME", "For naivereuse_kf of Context Extras: NaiveReuse, or prev_kf of another keyframe."
)

Keyframes = tuple[Any, ...]  # all of one kind
NONE = ContextExtras()


def _set(context_opts: Contexts, context_extras: ContextExtras | None = None) -> Contexts:
    return context_opts if context_extras is None else with_extras(context_opts, context_extras)


def _naive_reuse(
    prev_extras: ContextExtras = NONE,
    strength_multival: Multival | None = None,
    naivereuse_kf: tuple[ReuseKeyframe, ...] = (),
    start_percent: float = 0.0,
    end_percent: float = 0.1,
    weighted_mean: float = 0.95,
) -> ContextExtras:
    reuse = NaiveReuse(start_percent, end_percent, weighted_mean, strength_multival, naivereuse_kf)
    return replace(prev_extras, naive_reuse=reuse)


def _context_ref(
    prev_extras: ContextExtras = NONE,
    strength_multival: Multival | None = None,
    contextref_mode: Mode = ALL_AT_FIRST,
    contextref_tune: Tune | None = None,
    contextref_kf: tuple[RefKeyframe, ...] = (),
    start_percent: float = 0.0,
    end_percent: float = 0.1,
) -> ContextExtras:
    tune = contextref_tune or Tune()
    reference = ContextRef(start_percent, end_percent, strength_multival, contextref_mode, tune, contextref_kf)
    return replace(prev_extras, context_ref=reference)


def _start_and_end(end: float) -> list[io.Input]:
    return [
        sockets.percent("start_percent", "From where in the sampling schedule on it acts.", optional=True),
        sockets.percent("end_percent", "Up to where in the sampling schedule it acts.", default=end, optional=True),
    ]


PREV_EXTRAS = Extras.Input(
    "prev_extras", optional=True, tooltip="Extras that act besides this one; one of each kind counts."
)
STRENGTH = sockets.Multival.Input(
    "strength_multival", optional=True, tooltip="How strongly: a number, per frame, or a mask. Default 1."
)
_extra_node = partial(node, category=CATEGORY, outputs=[Extras.Output("CONTEXT_EXTRAS")])

EXTRA_NODES = [
    node(
        _set,
        node_id="ADE_ContextExtras_Set",
        display_name="Set Context Extras",
        old_name="Set Context Extras",
        category=CATEGORY,
        description="Puts extras on context options, in place of those that they have.",
        inputs=[
            sockets.ContextOptions.Input("context_opts", tooltip="Context options; the whole chain gets the extras."),
            Extras.Input("context_extras", optional=True, tooltip="NaiveReuse, ContextRef or both."),
        ],
        outputs=[sockets.ContextOptions.Output("CONTEXT_OPTS")],
    ),
    _extra_node(
        _naive_reuse,
        node_id="ADE_ContextExtras_NaiveReuse",
        display_name="Context Extras: NaiveReuse",
        old_name="Context Extras\u25c6NaiveReuse",
        description="Early in the sampling, pulls every part of the clip towards what the first window shows. Costs nothing.",
        inputs=[
            PREV_EXTRAS,
            STRENGTH,
            ReuseKeyframes.Input("naivereuse_kf", optional=True, tooltip="Changes of strength during sampling."),
            *_start_and_end(0.15),
            io.Float.Input(
                "weighted_mean",
                default=0.95,
                min=0.0,
                max=1.0,
                step=0.001,
                optional=True,
                tooltip="How much of the first window: 0 none, 1 nothing else.",
            ),
        ],
    ),
    _extra_node(
        _context_ref,
        node_id="ADE_ContextExtras_ContextRef",
        display_name="Context Extras: ContextRef",
        old_name="Context Extras\u25c6ContextRef",
        description="Lets windows look at earlier windows of the same step, so that all show the same things.",
        inputs=[
            PREV_EXTRAS,
            STRENGTH,
            RefMode.Input("contextref_mode", optional=True, tooltip="At which window they look. Default: the first."),
            RefTune.Input("contextref_tune", optional=True, tooltip="How they look. Default: self-attention alone."),
            RefKeyframes.Input("contextref_kf", optional=True, tooltip="Changes during sampling."),
            *_start_and_end(0.25),
        ],
    ),
]


def _sliding(sliding_width: int = 2) -> Sliding:
    at_least("sliding_width", sliding_width, 2)
    return Sliding(int(sliding_width))


def _indexes(switch_on_idxs: str = "", always_include_0: bool = True) -> Indexes:
    frames = parse_frame_numbers("switch_on_idxs", switch_on_idxs)
    return Indexes(frames | {0} if always_include_0 else frames)


def _mode_node(run: Callable, *, name: str, **fields) -> type[Node]:
    return node(
        run,
        display_name=f"ContextRef Mode: {name}",
        old_name=f"ContextRef Mode\u25c6{name}",
        category=f"{CATEGORY}/contextref",
        outputs=[RefMode.Output("CONTEXTREF_MODE")],
        **fields,
    )


MODE_NODES = [
    _mode_node(
        First,
        node_id="ADE_ContextExtras_ContextRef_ModeFirst",
        name="First",
        description="All windows look at the first one.",
        inputs=[],
    ),
    _mode_node(
        _sliding,
        node_id="ADE_ContextExtras_ContextRef_ModeSliding",
        name="Sliding",
        description="Windows look at one shortly before them.",
        inputs=[
            io.Int.Input(
                "sliding_width",
                default=2,
                min=2,
                max=sockets.LARGEST,
                step=1,
                optional=True,
                tooltip="How many windows show the same: at 2 each looks at its neighbour.",
            )
        ],
    ),
    _mode_node(
        _indexes,
        node_id="ADE_ContextExtras_ContextRef_ModeIndexes",
        name="Indexes",
        description="Windows look at the last one before them that was the first with one of the frames listed.",
        inputs=[
            io.String.Input(
                "switch_on_idxs", default="", optional=True, tooltip="Frames, counted from 0, such as 16, 32."
            ),
            io.Boolean.Input("always_include_0", default=True, optional=True, tooltip="Frame 0 is one of them."),
        ],
    ),
]

OF_ATTENTION, OF_STATISTICS = "self-attention", "contrast and colour of the UNet's features"


def _tune_inputs(prefix: str, what: str) -> list[io.Input]:
    tooltips = {
        "style_fidelity": f"How much of the negative prediction goes without, in {what}.",
        "ref_weight": f"In how many parts of the UNet, for {what}: 0 none, 1 all.",
        "strength": f"How strongly, for {what}: 0 not at all, 1 in full.",
    }
    return [
        io.Float.Input(f"{prefix}_{name}", default=1.0, min=0.0, max=1.0, step=0.01, optional=True, tooltip=tooltip)
        for name, tooltip in tooltips.items()
    ]


def _tune_node(prefixes: dict[str, str], *, name: str, **fields) -> type[Node]:
    inputs = [one for prefix, what in prefixes.items() for one in _tune_inputs(prefix, what)]

    def run(**values: float) -> Tune:
        return Tune(**{one.id: values.get(one.id, 1.0) for one in inputs})

    return node(
        run,
        display_name=f"ContextRef Tune: {name}",
        old_name=f"ContextRef Tune\u25c6{name}",
        category=f"{CATEGORY}/contextref",
        inputs=inputs,
        outputs=[RefTune.Output("CONTEXTREF_TUNE")],
        **fields,
    )


TUNE_NODES = [
    _tune_node(
        {"attn": OF_ATTENTION},
        node_id="ADE_ContextExtras_ContextRef_TuneAttn",
        name="Attn",
        description="How windows look at others in self-attention.",
    ),
    _tune_node(
        {"attn": OF_ATTENTION, "adain": OF_STATISTICS},
        node_id="ADE_ContextExtras_ContextRef_TuneAttnAdain",
        name="Attn+Adain",
        description="How windows look at others in self-attention, and take over the contrast and colour of their features.",
    ),
]

# Three nodes for each kind of keyframe: one of them, from a curve, from a list.


def _one(make: Callable, start: float) -> Callable:
    """``start`` is the start_percent that an API prompt gets which leaves it out."""

    def run(prev_kf: Keyframes = (), mult: float = 1.0, start_percent: float = start, **values) -> Keyframes:
        return chained((make(mult, start_percent=start_percent, **_named(values)),), prev_kf)

    return run


def _curve(make: Callable) -> Callable:
    def run(mult_start: float, mult_end: float, interpolation: str, intervals: int, **keyframes) -> Keyframes:
        check_keyframes("intervals", intervals)
        return _many(make, interpolated(mult_start, mult_end, intervals, interpolation).tolist(), **keyframes)

    return run


def _list(make: Callable) -> Callable:
    def run(mults_float: float | list[float], **keyframes) -> Keyframes:
        values = mults_float if isinstance(mults_float, list) else [mults_float]
        check_keyframes("The number of mults_float", len(values))
        return _many(make, [float(value) for value in values], **keyframes)

    return run


def _many(
    make: Callable,
    values: Sequence[float],
    start_percent: float,
    end_percent: float,
    print_keyframes: bool,
    prev_kf: Keyframes = (),
    **same,
) -> Keyframes:
    keyframes = evenly(start_percent, end_percent, values, partial(make, **_named(same)))
    if print_keyframes:
        log_keyframes("mult", ((keyframe.start_percent, keyframe.mult) for keyframe in keyframes))
    return chained(keyframes, prev_kf)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """The names of inputs as those of fields."""
    return {name.removesuffix("_replace"): value for name, value in values.items()}


INHERIT = "What is not connected here keeps the value of the keyframe before; else that of the extra counts."


def _keyframe_nodes(kind: str, make: Callable, socket: Any, start: float, more: list[io.Input]) -> list[type[Node]]:
    """``more``: what keyframes of this kind change besides the strength."""
    prev = socket.Input("prev_kf", optional=True, tooltip="Keyframes that count besides these.")
    mult = sockets.Multival.Input("mult_multival", optional=True, tooltip="Multiplies the strength as well.")
    several = [
        io.Boolean.Input("inherit_missing", default=True, tooltip=INHERIT),
        io.Boolean.Input("print_keyframes", default=False, tooltip="Write the keyframes into the log."),
        prev,
        mult,
        *more,
    ]
    span = [
        sockets.percent("start_percent", "Where in the sampling schedule the first one counts."),
        sockets.percent("end_percent", "Where in the sampling schedule the last one counts.", default=1.0),
    ]

    def number(name: str, tooltip: str, **options) -> io.Input:
        return io.Float.Input(name, default=1.0, min=0.0, max=1.0, step=0.001, tooltip=tooltip, **options)

    def row(run: Callable, suffix: str, name: str, old_name: str, description: str, inputs: list[io.Input]):
        return node(
            run,
            node_id=f"ADE_ContextExtras_{kind}_{suffix}",
            display_name=f"{kind} {name}",
            old_name=f"{kind} {old_name}",
            category=f"{CATEGORY}/{kind.lower()}",
            description=description,
            inputs=inputs,
            outputs=[socket.Output(f"{kind.upper()}_KF")],
        )

    return [
        row(
            _one(make, start),
            "Keyframe",
            "Keyframe",
            "Keyframe",
            f"Changes {kind} at a place in the sampling schedule.",
            [
                prev,
                mult,
                *more,
                number("mult", "Multiplies the strength.", optional=True),
                sockets.percent("start_percent", "From where in the sampling schedule on it counts.", optional=True),
                sockets.guarantee_steps(optional=True),
                io.Boolean.Input("inherit_missing", default=True, optional=True, tooltip=INHERIT),
            ],
        ),
        row(
            _curve(make),
            "KeyframeInterpolation",
            "Keyframes (Interpolated)",
            "Keyframes Interp.",
            f"The strength of {kind} goes from one value to another.",
            [
                *span,
                number("mult_start", "Multiplies the strength at first. 0: off, 1: as it is."),
                number("mult_end", "Multiplies the strength at last. 0: off, 1: as it is."),
                sockets.interpolation(),
                io.Int.Input(
                    "intervals", default=50, min=2, max=100, step=1, tooltip="How many keyframes, spread evenly."
                ),
                *several,
            ],
        ),
        row(
            _list(make),
            "KeyframeFromList",
            "Keyframes From List",
            "Keyframes From List",
            f"Strengths of {kind} one after the other, evenly over the sampling schedule.",
            [
                sockets.FloatOrMore(
                    "mults_float",
                    min=-1,
                    step=0.001,
                    force_input=True,
                    tooltip="A list of numbers, one for each keyframe, that multiply the strength.",
                ),
                *span,
                *several,
            ],
        ),
    ]


KEYFRAME_NODES = [
    *_keyframe_nodes("NaiveReuse", ReuseKeyframe, ReuseKeyframes, start=0.0, more=[]),
    *_keyframe_nodes(
        "ContextRef",
        RefKeyframe,
        RefKeyframes,
        start=1.0,
        more=[
            RefMode.Input("mode_replace", optional=True, tooltip="Replaces the mode."),
            RefTune.Input("tune_replace", optional=True, tooltip="Replaces the tune."),
        ],
    ),
]

NODES = [*EXTRA_NODES, *MODE_NODES, *TUNE_NODES, *KEYFRAME_NODES]
