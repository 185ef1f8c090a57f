"""Prompts and values that change from frame to frame."""

from functools import partial

from comfy_api.latest import io

from ..sampling.checks import check_latents
from ..sampling.prompts_apart import Apart, kept_apart, together
from ..scheduling.grammar import ScheduledText, parse_prompts, parse_values
from ..scheduling.prompts import (
    INTERPOLATIONS,
    Conditioning,
    Replacements,
    Texts,
    frame_of,
    prompt_of_each_frame,
    scheduled_conditioning,
    with_replacement,
)
from ..scheduling.values import log_schedule, values_per_frame, whole_numbers
from .base import node
from .sockets import FloatOrMore, Floats, Socket
from .values import at_least, at_most

CATEGORY = "AnimateDiff/scheduling"
LARGEST = 9007199254740991
LONGEST_TRANSITION = 256
COMPOUNDING, LINEAR = "compounding", "linear"
Ints = io.Custom("INTS")
ValuesReplace = Socket(
    "VALUES_REPLACE", "For values_replace of Prompt Scheduling, or prev_replace of another Add Values Replace."
)

INDICES = (
    "5 is that frame, counted from 0; -1 the last one; 0.5 half-way through the clip; 2:6 the frames 2 to 5; "
    "4: frame 4, holding until the next entry."
)
LATENT = io.Latent.Input("latent", tooltip="Its batch is the number of frames.")
PRINT = io.Boolean.Input(
    "print_schedule", default=False, optional=True, tooltip="Write what each frame gets into the log."
)
MAX_LENGTH = io.Int.Input(
    "max_length",
    default=0,
    min=0,
    max=LARGEST,
    step=1,
    optional=True,
    tooltip="The number of frames. 0: up to the largest index; then indices from the end and decimal ones do not work.",
)
PROMPTS = io.String.Input(
    "prompts",
    multiline=True,
    default="",
    tooltip=f'Such as "0": "a cat", "16": "a dog", or 0 = "a cat", 16 = "a dog". {INDICES}',
)
VALUES = io.String.Input(
    "values", multiline=True, default="", tooltip=f'Such as "0": 1.0, "16": 1.3, or 0 = 1.0, 16 = 1.3. {INDICES}'
)


def _text(name: str, tooltip: str) -> io.Input:
    return io.String.Input(name, multiline=True, force_input=True, optional=True, tooltip=tooltip)


CLIP = io.Clip.Input("clip", tooltip="Encodes the prompts.")
PARTS = [
    _text("prepend_text", "Goes before every prompt."),
    _text("append_text", "Goes behind every prompt."),
    ValuesReplace.Input(
        "values_replace", optional=True, tooltip="Values for `keys` in the prompts, from Add Values Replace."
    ),
]
INTERPOLATION = io.Combo.Input(
    "tensor_interp",
    options=list(INTERPOLATIONS),
    optional=True,
    tooltip="How encoded prompts are interpolated: on the straight line (lerp) or along the arc (slerp).",
)
COURSE = io.Combo.Input(
    "interpolation",
    options=[LINEAR, COMPOUNDING],
    default=LINEAR,
    tooltip="linear: even change from prompt to prompt, of the pooled output too. compounding: as in Prompt Scheduling, "
    "where most of the change comes early.",
)
# Behind all others: workflow files keep the values of widgets by their places.
APART = [
    io.Float.Input(
        "keep_apart",
        default=0.0,
        min=0.0,
        max=100.0,
        step=0.5,
        optional=True,
        tooltip="How strongly frames of different prompts are kept from mixing in the motion model, so that a prompt shows in its own "
        "frames only. 0: off.",
    ),
    io.Int.Input(
        "transition",
        default=8,
        min=0,
        max=LONGEST_TRANSITION,
        optional=True,
        tooltip="With keep_apart: over how many frames one prompt goes over into the next. More is smoother. 0: at once.",
    ),
]


_node = partial(node, category=CATEGORY)


def _conditioning(
    prompts: str,
    clip,
    frames: int,
    prepend_text: str = "",
    append_text: str = "",
    values_replace: Replacements = (),
    print_schedule: bool = False,
    tensor_interp: str = "lerp",
    interpolation: str = COMPOUNDING,
    keep_apart: float = 0.0,
    transition: int = 0,
) -> Conditioning:
    at_least("keep_apart", keep_apart, 0)
    at_most("transition", transition, LONGEST_TRANSITION, "longer ones keep nothing apart")
    schedule, compounding = parse_prompts("prompts", prompts, frames), interpolation == COMPOUNDING
    apart = Apart.of(prompt_of_each_frame(schedule, compounding), keep_apart, transition) if keep_apart else None
    texts, interpolate = Texts(prepend_text, append_text, values_replace), INTERPOLATIONS[tensor_interp]
    conditioning = scheduled_conditioning(clip, schedule, texts, interpolate, compounding, log=print_schedule)
    return conditioning if apart is None else kept_apart(conditioning, apart)


def _schedule_prompts(max_length: int = 0, **inputs) -> Conditioning:
    return _conditioning(frames=max_length, **inputs)


def _frames(latent: dict) -> int:
    check_latents(latent["samples"])
    return len(latent["samples"])


def _schedule_prompts_of_latents(latent: dict, **inputs) -> io.NodeOutput:
    return io.NodeOutput(_conditioning(frames=_frames(latent), **inputs), latent)


def _values(schedule: ScheduledText, print_schedule: bool) -> io.NodeOutput:
    floats = values_per_frame(schedule)
    if print_schedule:
        log_schedule(len(floats), lambda frame: f"{frame} = {floats[frame]}")
    ints = whole_numbers(floats)
    return io.NodeOutput(floats, floats, ints, ints)


def _schedule_values(values: str, print_schedule: bool = False, max_length: int = 0) -> io.NodeOutput:
    return _values(parse_values("values", values, max_length), print_schedule)


def _schedule_values_of_latents(values: str, latent: dict, print_schedule: bool = False) -> io.NodeOutput:
    return _values(parse_values("values", values, _frames(latent)), print_schedule)


def _list_of_floats(FLOAT: float | list[float]) -> list[float]:
    return FLOAT if isinstance(FLOAT, list) else [float(FLOAT)]


def _with_replacement(value_key: str, floats: list[float], prev_replace: Replacements = ()) -> Replacements:
    return with_replacement(value_key, floats, prev_replace)


PER_FRAME = io.Conditioning.Output(
    "CONDITIONING", tooltip="A prompt for each frame, for positive or negative of KSampler."
)
NUMBERS = [
    io.Float.Output("FLOAT", tooltip="A list with one number for each frame."),
    Floats.Output("FLOATS", tooltip="The same list."),
    io.Int.Output("INT", tooltip="The same, rounded."),
    Ints.Output("INTS", tooltip="The same, rounded."),
]

NODES = [
    _node(
        _schedule_prompts,
        node_id="ADE_PromptScheduling",
        display_name="Prompt Scheduling",
        old_name="Prompt Scheduling",
        aliases=("prompt travel", "Batch Prompt Schedule"),
        description="Encodes prompts for single frames of a clip, and interpolates between them.",
        inputs=[PROMPTS, CLIP, *PARTS, PRINT, MAX_LENGTH, INTERPOLATION],
        outputs=[PER_FRAME],
    ),
    _node(
        _schedule_prompts_of_latents,
        node_id="ADE_PromptSchedulingLatents",
        display_name="Prompt Scheduling (Latents)",
        old_name="Prompt Scheduling [Latents]",
        aliases=("prompt travel",),
        description="Encodes prompts for single frames of a clip as long as the latent batch, and interpolates between them.",
        inputs=[PROMPTS, CLIP, LATENT, *PARTS, PRINT, INTERPOLATION],
        outputs=[PER_FRAME, io.Latent.Output("LATENT", tooltip="As it came in.")],
    ),
    _node(
        _schedule_prompts,
        node_id="AnimateDiffPromptScheduling",
        display_name="Prompt Scheduling (Even)",
        aliases=("prompt travel", "linear interpolation"),
        description="Prompt Scheduling whose prompts change evenly from one to the next, instead of early.",
        inputs=[PROMPTS, CLIP, COURSE, *PARTS, PRINT, MAX_LENGTH, INTERPOLATION, *APART],
        outputs=[PER_FRAME],
    ),
    _node(
        _schedule_values,
        node_id="ADE_ValueScheduling",
        display_name="Value Scheduling",
        old_name="Value Scheduling",
        description="Numbers for single frames of a clip, and those between them on the straight line.",
        inputs=[VALUES, PRINT, MAX_LENGTH],
        outputs=NUMBERS,
    ),
    _node(
        _schedule_values_of_latents,
        node_id="ADE_ValueSchedulingLatents",
        display_name="Value Scheduling (Latents)",
        old_name="Value Scheduling [Latents]",
        description="Numbers for single frames of a clip as long as the latent batch, and those between them on the straight line.",
        inputs=[VALUES, LATENT, PRINT],
        outputs=NUMBERS,
    ),
    _node(
        lambda conditioning, index: together(frame_of(conditioning, index)),
        node_id="ADE_ConditionExtraction",
        display_name="Condition Step Extraction",
        old_name="Condition Step Extraction",
        description="The conditioning of one frame of scheduled prompts.",
        inputs=[
            io.Conditioning.Input("conditioning", tooltip="Scheduled prompts."),
            io.Int.Input("index", default=0, min=0, step=1, tooltip="The frame, counted from 0."),
        ],
        outputs=[io.Conditioning.Output("CONDITIONING", tooltip="The prompt of that frame, for a sampler.")],
    ),
    _node(
        _with_replacement,
        node_id="ADE_ValuesReplace",
        display_name="Add Values Replace",
        old_name="Add Values Replace",
        description="Gives a list of values a name, under which prompts of a schedule can use them.",
        inputs=[
            io.String.Input(
                "value_key",
                default="",
                multiline=None,  # unsaid, as in ADE, instead of False
                tooltip="Prompts name it between backticks: `zoom` for zoom. It is made of a-z, A-Z, 0-9 and _.",
            ),
            Floats.Input("floats", tooltip="A value for each frame, as from Value Scheduling."),
            ValuesReplace.Input("prev_replace", optional=True, tooltip="Values with other names, which are kept."),
        ],
        outputs=[ValuesReplace.Output("VALUES_REPLACE")],
    ),
    _node(
        _list_of_floats,
        node_id="ADE_FloatToFloats",
        display_name="Float to Floats",
        old_name="Float to Floats",
        description="A number, or a list of numbers on a FLOAT socket, as FLOATS.",
        inputs=[FloatOrMore("FLOAT", force_input=True, tooltip="A number, or a list of them.")],
        outputs=[Floats.Output("FLOATS")],
    ),
]
