"""Loading motion models and saying how they are applied."""

from comfy_api.latest import io

from ...host import folders
from ...host.schema import schema
from ...lora.apply import apply_motion_loras
from ...motion_models.files.motion_model import load_motion_model
from ...sampling.motion.applied import MotionSettings, apply
from .. import sockets
from ..make import tell_unknown

CATEGORY = "AnimateDiff"


class LoadAnimateDiffModel(io.ComfyNode):
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
    def execute(cls, model_name, ad_settings=None):
        return io.NodeOutput(load_motion_model(folders.full_path(folders.MOTION_MODELS, model_name), ad_settings))


class ApplyAnimateDiffModelSimple(io.ComfyNode):
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
    def execute(cls, motion_model, **optional):
        return ApplyAnimateDiffModel.execute(motion_model, start_percent=0.0, end_percent=1.0, **optional)


class ApplyAnimateDiffModel(io.ComfyNode):
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
    def execute(
        cls,
        motion_model,
        start_percent,
        end_percent,
        motion_lora=None,
        scale_multival=None,
        effect_multival=None,
        ad_keyframes=None,
        prev_m_models=None,
        per_block=None,
        **unknown,
    ):
        tell_unknown("ADE_ApplyAnimateDiffModel", unknown)
        motion_model, varying = apply_motion_loras(motion_model, motion_lora or ())
        settings = MotionSettings(
            start_percent=start_percent,
            end_percent=end_percent,
            scale=scale_multival,
            effect=effect_multival,
            per_block=per_block,
            keyframes=ad_keyframes or (),
            low_rank=varying,
        )
        return io.NodeOutput(apply(motion_model, settings, prev_m_models or ()))


NODES = [LoadAnimateDiffModel, ApplyAnimateDiffModelSimple, ApplyAnimateDiffModel]
