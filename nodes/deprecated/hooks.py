"""Deprecated nodes for LoRA hooks, which ComfyUI has nodes of its own for: each hands its inputs to what they do.

A hook carries its weights. ComfyUI registers it on any MODEL and CLIP that meets it, so both leave the loaders here as
they came.
"""

from collections.abc import Callable
from functools import partial

import comfy.hooks
from comfy_api.latest import io
from comfy_extras import nodes_hooks

from ...host import folders
from ...motion_models.files.reading import read_tensors
from ...motion_models.files.stored import values
from .. import sockets
from ..base import Node, node
from ..file_nodes import FileNode
from ..values import check_keyframes

CATEGORY = "AnimateDiff/deprecated"
Hooks = sockets.Socket("HOOKS", "Hooks, for a conditioning or a CLIP; also for ComfyUI's own nodes for hooks.")
HookKeyframes = sockets.Socket(
    "HOOK_KEYFRAMES", "Keyframes, for Set LoRA Hook Keyframes, or ComfyUI's Set Hook Keyframes."
)
LORA_HOOK = Hooks.Input("lora_hook", tooltip="LoRA hooks, from one of the Register nodes.")
_node = partial(node, category=CATEGORY, is_deprecated=True)


def use_instead(does: str, core: str) -> str:
    """The description of a deprecated node: what it does, and the node of ComfyUI to use instead."""
    return f"{does} In new workflows use ComfyUI's {core}."


def _lora(name: str, strength_model: float, strength_clip: float) -> comfy.hooks.HookGroup:
    tensors, _ = read_tensors(folders.full_path(folders.LORAS, name))
    tensors = {key: values(value) for key, value in tensors.items()}  # the hooks keep them
    return comfy.hooks.create_hook_lora(tensors, strength_model, strength_clip)


def _checkpoint(name: str, strength_model: float, strength_clip: float) -> comfy.hooks.HookGroup:
    return nodes_hooks.CreateHookModelAsLora().create_hook(name, strength_model, strength_clip)[0]


def _strength(name: str) -> io.Input:
    tooltip = "0 leaves it as it is, negative numbers push away from what the file was trained on."
    return io.Float.Input(name, default=1.0, min=-20.0, max=20.0, step=0.01, tooltip=tooltip)


def _create_node(create: Callable, *, file: Callable[[], io.Input], clip: bool, **fields) -> type[Node]:
    """``create(file name, strength of the model, strength of the text encoder)`` gives the hooks."""

    def run(model, strength_model: float, strength_clip: float = 0.0, clip=None, **file_name: str) -> io.NodeOutput:
        through = (model,) if clip is None else (model, clip)
        if strength_model == strength_clip == 0:
            return io.NodeOutput(*through, comfy.hooks.HookGroup())
        return io.NodeOutput(*through, create(*file_name.values(), strength_model, strength_clip))

    unchanged = "Handed on as it is: the hooks carry the weights."
    model, text_encoder = sockets.model(unchanged), io.Clip.Input("clip", tooltip=unchanged)
    both = [io.Model.Output("MODEL", tooltip="As it came in."), io.Clip.Output("CLIP", tooltip="As it came in.")]
    return _node(
        run,
        inputs=lambda: [
            *([model, text_encoder] if clip else [model]),
            file(),
            *map(_strength, ("strength_model", "strength_clip") if clip else ("strength_model",)),
        ],
        outputs=[*(both if clip else both[:1]), Hooks.Output("HOOKS")],
        base=FileNode,
        **fields,
    )


LORA_FILE = partial(sockets.file_of, folders.LORAS, "lora_name", "LoRAs")
CHECKPOINT_FILE = partial(sockets.file_of, folders.CHECKPOINTS, "ckpt_name", "checkpoints")

CREATE_NODES = [
    _create_node(
        _lora,
        file=LORA_FILE,
        clip=True,
        node_id="ADE_RegisterLoraHook",
        display_name="Register LoRA Hook",
        old_name="Register LoRA Hook",
        description=use_instead("A LoRA for single prompts.", "Create Hook LoRA"),
    ),
    _create_node(
        _lora,
        file=LORA_FILE,
        clip=False,
        node_id="ADE_RegisterLoraHookModelOnly",
        display_name="Register LoRA Hook (Model Only)",
        old_name="Register LoRA Hook (Model Only)",
        description=use_instead("A LoRA for single prompts.", "Create Hook LoRA (MO)"),
    ),
    _create_node(
        _checkpoint,
        file=CHECKPOINT_FILE,
        clip=True,
        node_id="ADE_RegisterModelAsLoraHook",
        display_name="Register Model as LoRA Hook",
        old_name="Register Model as LoRA Hook",
        description=use_instead("Another checkpoint for single prompts.", "Create Hook Model as LoRA"),
    ),
    _create_node(
        _checkpoint,
        file=CHECKPOINT_FILE,
        clip=False,
        node_id="ADE_RegisterModelAsLoraHookModelOnly",
        display_name="Register Model as LoRA Hook (Model Only)",
        old_name="Register Model as LoRA Hook (MO)",
        description=use_instead("Another checkpoint for single prompts.", "Create Hook Model as LoRA (MO)"),
    ),
]


def _combine_node(node_id: str, letters: str) -> type[Node]:
    names = [f"lora_hook_{letter}" for letter in letters]
    count = len(letters)
    return _node(
        lambda **hooks: comfy.hooks.HookGroup.combine_all_hooks([hooks.get(name) for name in names]),
        node_id=node_id,
        display_name=f"Combine LoRA Hooks ({count})",
        old_name=f"Combine LoRA Hooks [{count}]",
        description=use_instead("Several LoRA hooks as one.", f"Combine Hooks [{count}]"),
        inputs=[Hooks.Input(name, optional=True, tooltip="Hooks to combine with the others.") for name in names],
        outputs=[Hooks.Output("HOOKS")],
    )


PREV = HookKeyframes.Input("prev_hook_kf", optional=True, tooltip="Keyframes that count besides these.")
RANGE = [
    sockets.percent("start_percent", "Where in the sampling schedule the first one starts."),
    sockets.percent("end_percent", "Where in the sampling schedule the last one starts.", default=1.0),
]
PRINT = io.Boolean.Input("print_keyframes", default=False, tooltip="Write the keyframes into the log.")


def _keyframes_node(run: Callable, **fields) -> type[Node]:
    return _node(run, outputs=[HookKeyframes.Output("HOOK_KF")], **fields)


def _keyframe(strength_model: float, start_percent: float, guarantee_steps: int, prev_hook_kf=None):
    keyframes = comfy.hooks.HookKeyframeGroup() if prev_hook_kf is None else prev_hook_kf.clone()
    keyframes.add(comfy.hooks.HookKeyframe(strength_model, start_percent, guarantee_steps))
    return keyframes


def _interpolated(intervals: int, **inputs):
    check_keyframes("intervals", intervals)
    return nodes_hooks.CreateHookKeyframesInterpolated().create_hook_keyframes(keyframes_count=intervals, **inputs)[0]


def _of_list(strengths_float: float | list[float], **inputs):
    strengths = strengths_float if isinstance(strengths_float, list) else [float(strengths_float)]
    check_keyframes("The number of strengths_float", len(strengths))
    return nodes_hooks.CreateHookKeyframesFromFloats().create_hook_keyframes(strengths, **inputs)[0]


SCHEDULE_NODES = [
    _node(
        lambda lora_hook, hook_kf: nodes_hooks.SetHookKeyframes().set_hook_keyframes(lora_hook, hook_kf)[0],
        node_id="ADE_SetLoraHookKeyframe",
        display_name="Set LoRA Hook Keyframes",
        old_name="Set LoRA Hook Keyframes",
        description=use_instead("Changes the strength of LoRA hooks during sampling.", "Set Hook Keyframes"),
        inputs=[LORA_HOOK, HookKeyframes.Input("hook_kf", tooltip="How the strength changes during sampling.")],
        outputs=[Hooks.Output("HOOKS")],
    ),
    _keyframes_node(
        _keyframe,
        node_id="ADE_LoraHookKeyframe",
        display_name="LoRA Hook Keyframe",
        old_name="LoRA Hook Keyframe",
        description=use_instead("A strength from some place in the sampling schedule on.", "Create Hook Keyframe"),
        inputs=[
            _strength("strength_model"),
            sockets.percent("start_percent", "From where in the sampling schedule on it counts."),
            sockets.guarantee_steps(),
            PREV,
        ],
    ),
    _keyframes_node(
        _interpolated,
        node_id="ADE_LoraHookKeyframeInterpolation",
        display_name="LoRA Hook Keyframes Interp.",
        old_name="LoRA Hook Keyframes Interp.",
        description=use_instead("Strengths from one number to another.", "Create Hook Keyframes Interp."),
        inputs=[
            *RANGE,
            *(
                io.Float.Input(
                    name,
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    tooltip=f"Strength of the {which} keyframe. 0: off.",
                )
                for name, which in (("strength_start", "first"), ("strength_end", "last"))
            ),
            sockets.interpolation(),
            io.Int.Input("intervals", default=5, min=2, max=100, step=1, tooltip="How many keyframes."),
            PRINT,
            PREV,
        ],
    ),
    _keyframes_node(
        _of_list,
        node_id="ADE_LoraHookKeyframeFromStrengthList",
        display_name="LoRA Hook Keyframes From List",
        old_name="LoRA Hook Keyframes From List",
        description=use_instead(
            "Strengths one after the other, evenly over the sampling schedule.", "Create Hook Keyframes From Floats"
        ),
        inputs=[
            sockets.FloatOrMore(
                "strengths_float", min=-1, step=0.001, force_input=True, tooltip="A list of strengths."
            ),
            *RANGE,
            PRINT,
            PREV,
        ],
    ),
]

CLIP_NODE = _node(
    lambda clip, lora_hook: nodes_hooks.SetClipHooks().apply_hooks(
        clip, schedule_clip=False, apply_to_conds=True, hooks=lora_hook
    )[0],
    node_id="ADE_AttachLoraHookToCLIP",
    display_name="Set CLIP LoRA Hook",
    old_name="Set CLIP LoRA Hook",
    description=use_instead("Prompts encoded with LoRA hooks, which then act on the model as well.", "Set CLIP Hooks"),
    inputs=[io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."), LORA_HOOK],
    outputs=[io.Clip.Output("hook_CLIP", tooltip="For CLIP Text Encode, or Prompt Scheduling.")],
)

NODES = [
    *CREATE_NODES,
    _combine_node("ADE_CombineLoraHooks", "AB"),
    _combine_node("ADE_CombineLoraHooksFour", "ABCD"),
    _combine_node("ADE_CombineLoraHooksEight", "ABCDEFGH"),
    *SCHEDULE_NODES,
    CLIP_NODE,
]
