"""Nodes that make a MODEL sample with motion models."""

from dataclasses import replace

from ...host import folders
from ...host.schema import schema
from ...lora.apply import apply_motion_loras
from ...lora.motion_lora import MotionLoras
from ...motion_models.files.adjust import Adjustments
from ...motion_models.files.motion_model import load_motion_model
from ...sampling.evolved import animate
from ...sampling.motion.applied import Keyframe, MotionModels, MotionSettings, apply
from ...sampling.sample_settings import SampleSettings
from ...sampling.strength.multival import Multival, combined
from ...sampling.strength.per_block import PerBlock
from ...sampling.windows.context import Contexts
from .. import sockets
from ..base import MARK_1, MARK_2, Node
from ..file_nodes import FileNode, read_once
from ..motion_models.apply import warn_without_picture

CATEGORY = "AnimateDiff"


class UseEvolvedSampling(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_UseEvolvedSampling",
            display_name="AnimateDiff: Use Evolved Sampling",
            category=CATEGORY,
            description="Makes a model sample its latent batch as one clip, with the motion models given.",
            search_aliases=[f"Use Evolved Sampling {MARK_2}", "AnimateDiff sampling"],
            inputs=[
                sockets.model("The MODEL of the checkpoint, with its LoRAs."),
                sockets.beta_schedule(),
                sockets.MotionModelsSocket.Input(
                    "m_models", optional=True, tooltip="Motion models. Without any the model samples single pictures."
                ),
                sockets.CONTEXT_OPTIONS,
                sockets.SAMPLE_SETTINGS,
            ],
            outputs=[sockets.MODEL_OUTPUT],
        )

    @classmethod
    def run(
        cls,
        model,
        beta_schedule: str,
        m_models: MotionModels = (),
        context_options: Contexts = (),
        sample_settings: SampleSettings | None = None,
    ):
        return animate(model, m_models, beta_schedule, context_options, sample_settings)


class AnimateDiffLoaderGen1(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_AnimateDiffLoaderGen1",
            display_name="All-in-One AnimateDiff Loader",
            category=CATEGORY,
            description="AnimateDiff: Load Model, AnimateDiff: Apply Model and Use Evolved Sampling in one node.",
            search_aliases=[f"AnimateDiff Loader {MARK_1}", "AnimateDiff Loader Gen1"],
            inputs=[
                sockets.model("The MODEL of the checkpoint, with its LoRAs."),
                sockets.motion_model_name(),
                sockets.beta_schedule(),
                sockets.CONTEXT_OPTIONS,
                sockets.MOTION_LORA,
                sockets.SETTINGS,
                sockets.KEYFRAMES,
                sockets.SAMPLE_SETTINGS,
                sockets.SCALE,
                sockets.EFFECT,
                sockets.PER_BLOCK,
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
        scale_multival: Multival | None = None,
        effect_multival: Multival | None = None,
        ad_keyframes: tuple[Keyframe, ...] = (),
        per_block: PerBlock | None = None,
    ):
        settings = MotionSettings(
            scale=scale_multival, effect=effect_multival, per_block=per_block, keyframes=ad_keyframes
        )
        loaded = load_and_apply(model_name, settings, motion_lora, ad_settings)
        return animate(model, loaded, beta_schedule, context_options, sample_settings)


def load_and_apply(
    model_name: str, settings: MotionSettings, motion_lora: MotionLoras = (), ad_settings: Adjustments | None = None
) -> MotionModels:
    """What loaders do that apply the motion model as well: a scale in ``ad_settings`` counts in these only."""
    path = folders.full_path(folders.MOTION_MODELS, model_name)
    adjusted = None if ad_settings is None else ad_settings.told
    motion_model = read_once(("motion model", adjusted), path, lambda: load_motion_model(path, ad_settings))
    warn_without_picture(motion_model)
    motion_model, varying = apply_motion_loras(motion_model, motion_lora)
    scale = settings.scale if ad_settings is None else combined(settings.scale, ad_settings.scale)
    return apply(motion_model, replace(settings, scale=scale, low_rank=varying))


NODES = [UseEvolvedSampling, AnimateDiffLoaderGen1]
