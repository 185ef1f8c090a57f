"""Deprecated loaders and settings, for workflows made with them."""

import logging
from collections.abc import Callable
from typing import ClassVar

import torch
from comfy_api.latest import io

from ...host.schema import schema
from ...lora.motion_lora import MotionLoras
from ...motion_models.files.adjust import MULTIPLY, Adjustments, PositionAdjustment, WeightAdjustment, stretched
from ...sampling.evolved import animate
from ...sampling.motion.applied import Keyframe, MotionSettings
from ...sampling.sample_settings import SampleSettings
from ...sampling.schedules import beta_schedules
from ...sampling.strength.multival import pictures
from ...sampling.windows.context import Context, Contexts
from ...sampling.windows.schedules import LOOPED_UNIFORM, WindowOptions
from .. import sockets
from ..base import MARK, MARK_1, node
from ..file_nodes import FileNode
from ..motion_models.settings import AMOUNTS, ATTENTION, GROUPS, POSITIONS, SOME
from ..sampling.evolved import load_and_apply

CATEGORY = "AnimateDiff/deprecated"


# Loaders. They list files, and so make their inputs anew for each request.


class AnimateDiffLoaderWithContext(FileNode):
    renamed: ClassVar = {"motion_model_settings": "ad_settings"}

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_AnimateDiffLoaderWithContext",
            display_name="AnimateDiff Loader (Legacy)",
            category=CATEGORY,
            description="All-in-One AnimateDiff Loader as it was. Use that one in new workflows.",
            search_aliases=[f"AnimateDiff Loader [Legacy] {MARK_1}"],
            is_deprecated=True,
            inputs=[
                sockets.model("The MODEL of the checkpoint, with its LoRAs."),
                sockets.motion_model_name(),
                sockets.beta_schedule(),
                sockets.CONTEXT_OPTIONS,
                sockets.MOTION_LORA,
                sockets.SETTINGS,
                sockets.SAMPLE_SETTINGS,
                io.Float.Input(
                    "motion_scale",
                    default=1.0,
                    min=0.0,
                    step=0.001,
                    optional=True,
                    tooltip="Strength of motion: multiplies the temporal attention keys.",
                ),
                io.Boolean.Input(
                    "apply_v2_models_properly",
                    default=True,
                    optional=True,
                    tooltip="Off: v2 motion models run the way v1 models do, as workflows of 2023 had it. API prompts that leave it "
                    "out have it off.",
                ),
                sockets.KEYFRAMES,
            ],
            outputs=[sockets.MODEL_OUTPUT],
        )

    @classmethod
    def run(
        cls,
        model,
        model_name: str,
        beta_schedule: str,
        context_options: Contexts = (),
        motion_lora: MotionLoras = (),
        ad_settings: Adjustments | None = None,
        sample_settings: SampleSettings | None = None,
        motion_scale: float = 1.0,
        apply_v2_models_properly: bool | None = None,
        ad_keyframes: tuple[Keyframe, ...] = (),
    ):
        settings = MotionSettings(scale=motion_scale, keyframes=ad_keyframes)
        loaded = load_and_apply(model_name, settings, motion_lora, ad_settings)
        if apply_v2_models_properly is None and loaded[0].spec.version == "v2":
            # the widget is on, but this is what such API prompts got when the input was new
            logging.warning(
                "[AnimateDiff] apply_v2_models_properly is left out, so '%s' runs as v1 models do, the way prompts of 2023 "
                "had it: its shapes wear down. Set it to true for the motion that the model was trained for.",
                loaded[0].spec.name,
            )
        return animate(
            model,
            loaded,
            beta_schedule,
            context_options,
            sample_settings,
            apply_v2_properly=bool(apply_v2_models_properly),
        )


OLD_SCHEDULE = "sqrt_linear (AnimateDiff)"
# the names of beta_schedules.OPTIONS, with the first and this one changed round
V1_SCHEDULES = [
    OLD_SCHEDULE,
    beta_schedules.USE_EXISTING,
    beta_schedules.AUTOSELECT,
    *(name for name in beta_schedules.SCHEDULES if name != OLD_SCHEDULE),
]


def _v1_schema(node_id: str, name: str, old_name: str, windows: list[io.Input]) -> io.Schema:
    return schema(
        node_id=node_id,
        display_name=name,
        category=CATEGORY,
        description="All-in-One AnimateDiff Loader as it was at first. Use that one in new workflows.",
        search_aliases=[old_name],
        is_deprecated=True,
        inputs=[
            sockets.model("The MODEL of the checkpoint, with its LoRAs."),
            io.Latent.Input("latents", tooltip="Handed on as they are."),
            sockets.motion_model_name(),
            io.Boolean.Input(
                "unlimited_area_hack", default=False, tooltip="Has no effect: ComfyUI looks after memory by itself."
            ),
            *windows,
            io.Combo.Input(
                "beta_schedule",
                options=V1_SCHEDULES,
                tooltip="Noise schedule. autoselect takes the one the motion model was trained with.",
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT, io.Latent.Output("LATENT", tooltip="The latents as they came in.")],
    )


def _v1(model, model_name: str, beta_schedule: str, contexts: Contexts = ()):
    loaded = load_and_apply(model_name, MotionSettings())
    return animate(model, loaded, beta_schedule, contexts, apply_v2_properly=False)


class AnimateDiffLoaderV1(FileNode):
    @classmethod
    def define_schema(cls):
        old_name = f"\U0001f6abAnimateDiff Loader [DEPRECATED] {MARK}"
        return _v1_schema("AnimateDiffLoaderV1", "AnimateDiff Loader (V1)", old_name, [])

    @classmethod
    def run(cls, model, latents: dict, model_name: str, unlimited_area_hack: bool, beta_schedule: str) -> io.NodeOutput:
        return io.NodeOutput(_v1(model, model_name, beta_schedule), latents)


class AnimateDiffLoaderV1Advanced(FileNode):
    @classmethod
    def define_schema(cls):
        return _v1_schema(
            "ADE_AnimateDiffLoaderV1Advanced",
            "AnimateDiff Loader (V1, Advanced)",
            f"\U0001f6abAnimateDiff Loader (Advanced) [DEPRECATED] {MARK}",
            [
                io.Int.Input(
                    "context_length", default=16, min=0, max=1000, tooltip="Frames of a window. 0: no windows."
                ),
                io.Int.Input("context_stride", default=1, min=1, max=1000, tooltip="Above 1 ties the clip together."),
                io.Int.Input("context_overlap", default=4, min=0, max=1000, tooltip="Frames that neighbours share."),
                io.Combo.Input("context_schedule", options=["uniform"], tooltip="Looped Uniform."),
                io.Boolean.Input(
                    "closed_loop", default=False, tooltip="Also tie the end of the clip to its beginning."
                ),
            ],
        )

    @classmethod
    def run(
        cls,
        model,
        latents: dict,
        model_name: str,
        unlimited_area_hack: bool,
        context_length: int,
        context_stride: int,
        context_overlap: int,
        context_schedule: str,
        closed_loop: bool,
        beta_schedule: str,
    ) -> io.NodeOutput:
        options = WindowOptions(LOOPED_UNIFORM, context_length, context_overlap, context_stride, closed_loop)
        return io.NodeOutput(_v1(model, model_name, beta_schedule, (Context(options, fuse="flat"),)), latents)


# Settings. The strengths multiply groups of weights, the numbers of frames change the position table.

FRAMES = {**POSITIONS, "motion_pe_stretch": "How many frames longer the position tables become. 0: as they are."}
# widget -> field of PositionAdjustment
STRETCH = {"motion_pe_stretch": "stretch"}
MANUAL = {
    **STRETCH,
    "cap_initial_pe_length": "cap",
    "interpolate_pe_to_length": "length",
    "initial_pe_idx_offset": "initial_offset",
    "final_pe_idx_offset": "final_offset",
}


def _settings(groups: tuple[str, ...], positions: dict[str, str]) -> Callable:
    def run(
        mask_motion_scale: torch.Tensor | None = None,
        min_motion_scale: float = 1.0,
        max_motion_scale: float = 1.0,
        **values,
    ) -> Adjustments:
        position = PositionAdjustment(**{field: values[name] for name, field in positions.items()})
        weight = WeightAdjustment(MULTIPLY, {group: values[f"{group}_strength"] for group in groups})
        scale = mask_motion_scale
        if scale is not None:
            scale = stretched(pictures(scale), min_motion_scale, max_motion_scale)
        return Adjustments((position,) if positions else (), (weight,) if groups else (), scale)

    return run


def _settings_node(node_id: str, kind: str, old_kind: str, groups: tuple[str, ...], positions: dict[str, str]) -> type:
    mask = io.Mask.Input(
        "mask_motion_scale",
        optional=True,
        tooltip="Multiplies the scale of motion: min_motion_scale where it is darkest, max_motion_scale where lightest.",
    )
    only_mask = not groups and not positions
    bounds = [
        io.Float.Input(
            f"{name}_motion_scale",
            default=1.0,
            min=0.0,
            step=0.001,
            optional=not only_mask,
            tooltip=f"Scale of motion where mask_motion_scale is {where}. 1: no change.",
        )
        for name, where in (("min", "darkest"), ("max", "lightest"))
    ]
    return node(
        _settings(groups, positions),
        node_id=node_id,
        display_name=f"Motion Model Settings ({kind})",
        category=CATEGORY,
        description="Adjustments of a motion model. Use AnimateDiff Settings and the Adjust nodes in new workflows.",
        aliases=(f"\U0001f6ab[DEPR] Motion Model Settings{old_kind} {MARK_1}",),
        is_deprecated=True,
        inputs=[
            *(
                io.Float.Input(
                    f"{group}_strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.0001,
                    tooltip=AMOUNTS[MULTIPLY].format(GROUPS[group]),
                )
                for group in groups
            ),
            *(io.Int.Input(name, default=0, min=0, step=1, tooltip=FRAMES[name]) for name in positions),
            *((*bounds, mask) if only_mask else (mask, *bounds)),
        ],
        outputs=[sockets.Settings.Output("AD_SETTINGS")],
    )


NODES = [
    AnimateDiffLoaderWithContext,
    AnimateDiffLoaderV1,
    AnimateDiffLoaderV1Advanced,
    _settings_node("ADE_AnimateDiffModelSettings_Release", "Mask", "", (), {}),
    _settings_node("ADE_AnimateDiffModelSettingsSimple", "Simple", " (Simple)", (), STRETCH),
    _settings_node("ADE_AnimateDiffModelSettings", "Advanced", " (Advanced)", SOME, MANUAL),
    _settings_node("ADE_AnimateDiffModelSettingsAdvancedAttnStrengths", "Attention", " (Adv. Attn)", ATTENTION, MANUAL),
]
