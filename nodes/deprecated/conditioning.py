"""Deprecated nodes that give a conditioning a mask, LoRA hooks and a part of the schedule: each does what ComfyUI's own does.

Most are there twice: for one conditioning, and for a positive and a negative one together.
"""

from functools import partial

import comfy.hooks
import torch
from comfy_api.latest import io
from comfy_extras import nodes_hooks

from ...sampling.strength.multival import pictures
from .. import sockets
from ..base import Node, node
from .hooks import CATEGORY, LORA_HOOK, Hooks, use_instead

Conditionings = list[list]  # one, or a positive and a negative one
TimestepsRange = sockets.Socket(
    "TIMESTEPS_RANGE", "For opt_timesteps of nodes that set props, or ComfyUI's Cond Set Props."
)
FOR_SAMPLERS = "For a sampler, or another node that combines conditionings."
# What the names of inputs for conditionings end with, and what happens to those.
ENDS = {
    "": "The conditioning that another one is added to.",
    "_ADD": "The conditioning that gets the mask, the hooks and the part of the schedule.",
    "_DEFAULT": "The conditioning for where no mask of the others is.",
    "_A": "The conditioning that another one is added to.",
    "_B": "The conditioning that is added.",
}
_node = partial(node, category=CATEGORY, is_deprecated=True)


def _with_properties(
    conds: Conditionings,
    onto: Conditionings | None,
    strength: float,
    set_cond_area: str,
    opt_mask: torch.Tensor | None = None,
    opt_lora_hook: comfy.hooks.HookGroup | None = None,
    opt_timesteps: tuple[float, float] | None = None,
) -> Conditionings:
    """``conds`` with what is given; behind ``onto``, if there are such."""
    properties = {
        "strength": strength,
        "set_cond_area": set_cond_area,
        "mask": None if opt_mask is None else pictures(opt_mask),
        "hooks": opt_lora_hook,
        "timesteps_range": opt_timesteps,
    }
    if onto is None:
        return comfy.hooks.set_conds_props(conds, **properties)
    return comfy.hooks.set_conds_props_and_combine(onto, conds, **properties)


def _with_rest(
    conds: Conditionings, onto: Conditionings, opt_lora_hook: comfy.hooks.HookGroup | None = None
) -> Conditionings:
    """``onto``, and ``conds`` wherever in the picture none of them acts."""
    return comfy.hooks.set_default_conds_and_combine(onto, conds, hooks=opt_lora_hook)


PROPERTIES = [
    io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01, tooltip="Multiplies the mask."),
    io.Combo.Input(
        "set_cond_area",
        options=["default", "mask bounds"],
        tooltip="mask bounds: the UNet sees nothing but the rectangle around the mask.",
    ),
    io.Mask.Input(
        "opt_mask", optional=True, tooltip="Where in the picture it acts, one mask for each frame or for all."
    ),
]
HOOK = Hooks.Input("opt_lora_hook", optional=True, tooltip="LoRA hooks that act with it.")
TIMESTEPS = TimestepsRange.Input("opt_timesteps", optional=True, tooltip="The part of the schedule where it acts.")


def _for_all(names: tuple[str, ...]) -> list[type[Node]]:
    """The nodes for conditionings of these names: one, or a pair."""
    pair = len(names) == 2
    old, core = ("Conds", "Cond Pair") if pair else ("Cond", "Cond")
    in_words = "a pair of conditionings" if pair else "a conditioning"

    def row(
        run, *, onto: str | None, conds: str, more: list[io.Input], node_id: str, name: str, **fields
    ) -> type[Node]:
        """``onto`` and ``conds``: what the names of the inputs end with."""

        def outputs_of(**inputs) -> io.NodeOutput:
            first = None if onto is None else [inputs.pop(f"{each}{onto}") for each in names]
            return io.NodeOutput(*run([inputs.pop(f"{each}{conds}") for each in names], first, **inputs))

        ends = [conds] if onto is None else [onto, conds]
        return _node(
            outputs_of,
            node_id=f"ADE_{'Paired' if pair else ''}{node_id}",
            display_name=name,
            old_name=name,
            inputs=[
                *(io.Conditioning.Input(f"{each}{end}", tooltip=ENDS[end]) for end in ends for each in names),
                *more,
            ],
            # 0.3.75 allows no output the id of an input
            outputs=[
                io.Conditioning.Output(f"{each}_out", each if pair else "CONDITIONING", tooltip=FOR_SAMPLERS)
                for each in names
            ],
            **fields,
        )

    return [
        row(
            _with_properties,
            onto=None,
            conds="_ADD",
            more=[*PROPERTIES, HOOK, TIMESTEPS],
            node_id="ConditioningSetMask",
            name=f"Set Props on {old}",
            description=use_instead(
                f"Gives {in_words} a mask, LoRA hooks and a part of the schedule.", f"{core} Set Props"
            ),
        ),
        row(
            _with_properties,
            onto="",
            conds="_ADD",
            more=[*PROPERTIES, HOOK, TIMESTEPS],
            node_id="ConditioningSetMaskAndCombine",
            name=f"Set Props and Combine {old}",
            description=use_instead(
                f"Gives {in_words} a mask, LoRA hooks and a part of the schedule, and adds it to another.",
                f"{core} Set Props Combine",
            ),
        ),
        row(
            _with_rest,
            onto="",
            conds="_DEFAULT",
            more=[HOOK],
            node_id="ConditioningSetUnmaskedAndCombine",
            name=f"Set Unmasked {old}",
            description=use_instead(
                f"Adds {in_words} that acts where no mask of the others is.", f"{core} Set Default Combine"
            ),
        ),
        row(
            lambda conds, onto: comfy.hooks.combine_with_new_conds(onto, conds),
            onto="_A",
            conds="_B",
            more=[],
            node_id="ConditioningCombine",
            name=f"Manual Combine {old}",
            description=use_instead(
                f"Adds {in_words} to another.", "Cond Pair Combine" if pair else "Conditioning (Combine)"
            ),
        ),
    ]


NODES = [
    *_for_all(("positive", "negative")),
    *_for_all(("cond",)),
    _node(
        lambda conditioning, lora_hook: comfy.hooks.set_hooks_for_conditioning(conditioning, lora_hook),
        node_id="ADE_AttachLoraHookToConditioning",
        display_name="Set Model LoRA Hook",
        old_name="Set Model LoRA Hook",
        description=use_instead("LoRA hooks that act on the model with a conditioning.", "Cond Set Props"),
        inputs=[io.Conditioning.Input("conditioning", tooltip="The conditioning that the hooks act with."), LORA_HOOK],
        outputs=[io.Conditioning.Output("CONDITIONING", tooltip=FOR_SAMPLERS)],
    ),
    _node(
        lambda start_percent, end_percent: nodes_hooks.ConditioningTimestepsRange().create_range(
            start_percent, end_percent
        )[0],
        node_id="ADE_TimestepsConditioning",
        display_name="Timesteps Conditioning",
        old_name="Timesteps Conditioning",
        description=use_instead("A part of the sampling schedule, for a conditioning to act in.", "Timesteps Range"),
        inputs=[
            sockets.percent("start_percent", "Where it begins: 0 is pure noise."),
            sockets.percent("end_percent", "Where it ends: 1 is the finished clip.", default=1.0),
        ],
        outputs=[TimestepsRange.Output("TIMESTEPS_RANGE")],
    ),
]
