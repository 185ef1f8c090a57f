"""Loading motion models and saying how they are applied."""

import logging

from comfy_api.latest import io

from ...host import folders
from ...host.schema import schema
from ...lora.apply import apply_motion_loras
from ...lora.motion_lora import MotionLoras
from ...motion_models.files.adjust import Adjustments
from ...motion_models.files.motion_model import load_motion_model
from ...sampling.motion.applied import Keyframe, MotionModels, MotionSettings, apply
from ...sampling.strength.multival import Multival
from ...sampling.strength.per_block import PerBlock
from .. import sockets
from ..base import Node

CATEGORY = "AnimateDiff"


class LoadAnimateDiffModel(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadAnimateDiffModel",
            display_name="Load AnimateDiff Model",
            category=CATEGORY,
            description="Loads a motion model: AnimateDiff v1-v3, SDXL beta, HotshotXL, AnimateLCM, diffusers adapters.",
            search_aliases=["Load AnimateDiff Model 🎭🅐🅓②", "motion module", "motion model"],
            inputs=[sockets.motion_model_name(), sockets.SETTINGS],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, ad_settings: Adjustments | None = None):
        return load_motion_model(folders.full_path(folders.MOTION_MODELS, model_name), ad_settings)


class ApplyAnimateDiffModelSimple(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_ApplyAnimateDiffModelSimple",
            display_name="Apply AnimateDiff Model",
            category=CATEGORY,
            description="Says how strongly a motion model is applied.",
            search_aliases=["Apply AnimateDiff Model 🎭🅐🅓②"],
            inputs=[
                sockets.MotionModelSocket.Input("motion_model"),
                sockets.MOTION_LORA,
                sockets.SCALE,
                sockets.EFFECT,
                sockets.KEYFRAMES,
                sockets.PER_BLOCK,
            ],
            outputs=[sockets.MotionModelsSocket.Output("M_MODELS")],
        )

    @classmethod
    def run(cls, motion_model, **optional) -> MotionModels:
        return ApplyAnimateDiffModel.run(motion_model, start_percent=0.0, end_percent=1.0, **optional)


class ApplyAnimateDiffModel(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_ApplyAnimateDiffModel",
            display_name="Apply AnimateDiff Model (Advanced)",
            category=CATEGORY,
            description="Says when and how strongly a motion model is applied. Chain several: the last one runs last.",
            search_aliases=["Apply AnimateDiff Model (Adv.) 🎭🅐🅓②"],
            inputs=[
                sockets.MotionModelSocket.Input("motion_model"),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the sampling schedule the motion model begins to act (0: from the start).",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the sampling schedule the motion model stops acting (1: never).",
                ),
                sockets.MOTION_LORA,
                sockets.SCALE,
                sockets.EFFECT,
                sockets.KEYFRAMES,
                sockets.MotionModelsSocket.Input(
                    "prev_m_models", optional=True, tooltip="Motion models applied before this one."
                ),
                sockets.PER_BLOCK,
            ],
            outputs=[sockets.MotionModelsSocket.Output("M_MODELS")],
        )

    @classmethod
    def run(
        cls,
        motion_model,
        start_percent: float,
        end_percent: float,
        motion_lora: MotionLoras = (),
        scale_multival: Multival | None = None,
        effect_multival: Multival | None = None,
        ad_keyframes: tuple[Keyframe, ...] = (),
        prev_m_models: MotionModels = (),
        per_block: PerBlock | None = None,
    ) -> MotionModels:
        if start_percent >= end_percent:
            logging.warning(
                "[AnimateDiff] start_percent is %g and end_percent %g, so the motion model '%s' never acts. Set start_percent "
                "below end_percent.",
                start_percent,
                end_percent,
                motion_model.model.spec.name,
            )
        motion_model, varying = apply_motion_loras(motion_model, motion_lora)
        settings = MotionSettings(
            start_percent=start_percent,
            end_percent=end_percent,
            scale=scale_multival,
            effect=effect_multival,
            per_block=per_block,
            keyframes=ad_keyframes,
            low_rank=varying,
        )
        return apply(motion_model, settings, prev_m_models)


NODES = [LoadAnimateDiffModel, ApplyAnimateDiffModelSimple, ApplyAnimateDiffModel]
