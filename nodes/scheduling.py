"""Prompts and values that change from frame to frame."""

import numbers
from collections.abc import Callable

import torch
from comfy_api.latest import io

from ..scheduling.grammar import Schedule, parse_prompts, parse_values
from ..scheduling.prompts import INTERPOLATIONS, Texts, frame_of, scheduled_conditioning, with_replacement
from ..scheduling.values import log_schedule, values_per_frame, whole_numbers
from .make import node

CATEGORY = "AnimateDiff/scheduling"
LARGEST = 9007199254740991
COMPOUNDING, LINEAR = "compounding", "linear"
Floats, Ints, ValuesReplace = io.Custom("FLOATS"), io.Custom("INTS"), io.Custom("VALUES_REPLACE")

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
    return io.String.Input(name, multiline=True, default="", force_input=True, optional=True, tooltip=tooltip)


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


def _node(node_id: str, name: str, description: str, inputs: list, outputs: list, run: Callable, *aliases: str) -> type:
    return node(
        run,
        inputs,
        outputs,
        node_id=node_id,
        display_name=name,
        category=CATEGORY,
        description=description,
        search_aliases=list(aliases),
    )


def _conditioning(
    prompts,
    clip,
    frames,
    prepend_text="",
    append_text="",
    values_replace=(),
    print_schedule=False,
    tensor_interp="lerp",
    interpolation=COMPOUNDING,
) -> list:
    return scheduled_conditioning(
        clip,
        parse_prompts("prompts", prompts, frames),
        # a string input may be connected to nothing but None
        Texts(prepend_text or "", append_text or "", values_replace or ()),
        INTERPOLATIONS[tensor_interp],
        compounding=interpolation == COMPOUNDING,
        log=print_schedule,
    )


def _schedule_prompts(max_length=0, **inputs) -> list:
    return _conditioning(frames=max_length, **inputs)


def _schedule_prompts_of_latents(latent, **inputs) -> io.NodeOutput:
    return io.NodeOutput(_conditioning(frames=len(latent["samples"]), **inputs), latent)


def _values(schedule: Schedule, print_schedule: bool) -> io.NodeOutput:
    floats = values_per_frame(schedule)
    if print_schedule:
        log_schedule([f"{frame} = {value}" for frame, value in enumerate(floats)])
    ints = whole_numbers(floats)
    return io.NodeOutput(floats, floats, ints, ints)


def _schedule_values(values, print_schedule=False, max_length=0) -> io.NodeOutput:
    return _values(parse_values("values", values, max_length), print_schedule)


def _schedule_values_of_latents(values, latent, print_schedule=False) -> io.NodeOutput:
    return _values(parse_values("values", values, len(latent["samples"])), print_schedule)


def _list_of_floats(FLOAT) -> list[float]:
    """A number, or what other packs' schedules put on a FLOAT socket: a list or a tensor of numbers."""
    if isinstance(FLOAT, torch.Tensor):
        return FLOAT.flatten().tolist()
    return [float(FLOAT)] if isinstance(FLOAT, numbers.Real) else list(FLOAT)


CONDITIONING = io.Conditioning.Output("CONDITIONING")
NUMBERS = [
    io.Float.Output("FLOAT", tooltip="A list with one number for each frame."),
    Floats.Output("FLOATS", tooltip="The same list."),
    io.Int.Output("INT", tooltip="The same, rounded."),
    Ints.Output("INTS", tooltip="The same, rounded."),
]

NODES = [
    _node(
        "ADE_PromptScheduling",
        "Prompt Scheduling",
        "Encodes prompts for single frames of a clip, and interpolates between them.",
        [PROMPTS, CLIP, *PARTS, PRINT, MAX_LENGTH, INTERPOLATION],
        [CONDITIONING],
        _schedule_prompts,
        "Prompt Scheduling 🎭🅐🅓",
        "prompt travel",
        "Batch Prompt Schedule",
    ),
    _node(
        "ADE_PromptSchedulingLatents",
        "Prompt Scheduling (Latents)",
        "Encodes prompts for single frames of a clip as long as the latent batch, and interpolates between them.",
        [PROMPTS, CLIP, LATENT, *PARTS, PRINT, INTERPOLATION],
        [CONDITIONING, io.Latent.Output("LATENT", tooltip="As it came in.")],
        _schedule_prompts_of_latents,
        "Prompt Scheduling [Latents] 🎭🅐🅓",
        "prompt travel",
    ),
    _node(
        "AnimateDiffPromptScheduling",
        "Prompt Scheduling (Even)",
        "Prompt Scheduling whose prompts change evenly from one to the next, instead of early.",
        [PROMPTS, CLIP, COURSE, *PARTS, PRINT, MAX_LENGTH, INTERPOLATION],
        [CONDITIONING],
        _schedule_prompts,
        "prompt travel",
        "linear interpolation",
    ),
    _node(
        "ADE_ValueScheduling",
        "Value Scheduling",
        "Numbers for single frames of a clip, and those between them on the straight line.",
        [VALUES, PRINT, MAX_LENGTH],
        NUMBERS,
        _schedule_values,
        "Value Scheduling 🎭🅐🅓",
    ),
    _node(
        "ADE_ValueSchedulingLatents",
        "Value Scheduling (Latents)",
        "Numbers for single frames of a clip as long as the latent batch, and those between them on the straight line.",
        [VALUES, LATENT, PRINT],
        NUMBERS,
        _schedule_values_of_latents,
        "Value Scheduling [Latents] 🎭🅐🅓",
    ),
    _node(
        "ADE_ConditionExtraction",
        "Condition Step Extraction",
        "The conditioning of one frame of scheduled prompts.",
        [
            io.Conditioning.Input("conditioning", tooltip="Scheduled prompts."),
            io.Int.Input("index", default=0, min=0, step=1, tooltip="The frame, counted from 0."),
        ],
        [CONDITIONING],
        lambda conditioning, index: frame_of(conditioning, index),
        "Condition Step Extraction 🎭🅐🅓",
    ),
    _node(
        "ADE_ValuesReplace",
        "Add Values Replace",
        "Gives a list of values a name, under which prompts of a schedule can use them.",
        [
            io.String.Input(
                "value_key",
                default="",
                multiline=None,  # unsaid, as in ADE, instead of False
                tooltip="Prompts name it between backticks: `zoom` for zoom. a-z, A-Z, 0-9, _",
            ),
            Floats.Input("floats", tooltip="A value for each frame, as from Value Scheduling."),
            ValuesReplace.Input("prev_replace", optional=True, tooltip="Values with other names, which are kept."),
        ],
        [ValuesReplace.Output("VALUES_REPLACE")],
        lambda value_key, floats, prev_replace=(): with_replacement(value_key, floats, prev_replace or ()),
        "Add Values Replace 🎭🅐🅓",
    ),
    _node(
        "ADE_FloatToFloats",
        "Float to Floats",
        "A number, or a list of numbers on a FLOAT socket, as FLOATS.",
        [io.Float.Input("FLOAT", default=39, force_input=True, tooltip="A number, or a list of them.")],
        [Floats.Output("FLOATS")],
        _list_of_floats,
        "Float to Floats 🎭🅐🅓",
    ),
]
