"""Loading motion models and saying how they are applied."""

import logging

from ...host import folders
from ...host.patcher import parts
from ...host.schema import schema
from ...lora.apply import apply_motion_loras
from ...lora.motion_lora import MotionLoras
from ...motion_models.adapters.image_inputs import KINDS
from ...motion_models.files.adjust import Adjustments
from ...motion_models.files.motion_model import load_motion_model
from ...motion_models.layouts import FANCY_VIDEO, PIA
from ...sampling.motion.adapter import Adapter
from ...sampling.motion.applied import Keyframe, MotionModels, MotionSettings, apply
from ...sampling.strength.multival import Multival
from ...sampling.strength.per_block import PerBlock
from .. import sockets
from ..base import MARK_2, node
from ..file_nodes import FileNode

CATEGORY = "AnimateDiff"


class LoadAnimateDiffModel(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadAnimateDiffModel",
            display_name="AnimateDiff: Load Model",
            category=CATEGORY,
            description="Loads a motion model: AnimateDiff v1-v3, SDXL beta, HotshotXL, AnimateLCM, diffusers adapters.",
            search_aliases=[f"Load AnimateDiff Model {MARK_2}", "motion module", "motion model"],
            inputs=[sockets.motion_model_name(), sockets.SETTINGS],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, ad_settings: Adjustments | None = None):
        return load_motion_model(folders.full_path(folders.MOTION_MODELS, model_name), ad_settings)


# The inputs that all Apply nodes share, between which each has its own.
MOTION_MODEL = sockets.MotionModelSocket.Input("motion_model", tooltip="The motion model, from a node that loads one.")
RANGE = [
    sockets.percent(
        "start_percent", "Where in the sampling schedule the motion model begins to act (0: from the start)."
    ),
    sockets.percent(
        "end_percent", "Where in the sampling schedule the motion model stops acting (1: never).", default=1.0
    ),
]
STRENGTHS = [sockets.MOTION_LORA, sockets.SCALE, sockets.EFFECT]
FURTHER = [
    sockets.KEYFRAMES,
    sockets.MotionModelsSocket.Input("prev_m_models", optional=True, tooltip="Motion models applied before this one."),
    sockets.PER_BLOCK,
]
# Motion models with an image input, and the nodes that give them their picture.
TAKE_PICTURES = {KINDS[PIA]: "Apply AnimateDiff-PIA Model", KINDS[FANCY_VIDEO]: "Apply FancyVideo Model"}
OUTPUTS = [sockets.MotionModelsSocket.Output("M_MODELS")]


def warn_without_picture(motion_model) -> None:
    """Tell in the log that a motion model could take a picture where it gets none."""
    for kind in parts(motion_model).keys() & TAKE_PICTURES.keys():
        logging.warning(
            "[AnimateDiff] The motion model '%s' has an %s, which gets no picture here: it is applied as an ordinary motion "
            "model. To animate a picture, apply it with %s.",
            motion_model.model.spec.name,
            kind,
            TAKE_PICTURES[kind],
        )


def applied(
    motion_model,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    motion_lora: MotionLoras = (),
    scale_multival: Multival | None = None,
    effect_multival: Multival | None = None,
    ad_keyframes: tuple[Keyframe, ...] = (),
    prev_m_models: MotionModels = (),
    per_block: PerBlock | None = None,
    adapters: tuple[Adapter, ...] = (),
) -> MotionModels:
    """What every Apply node gives, from the inputs above and the adapters that the node makes of its own."""
    if not (motion_model.model.spec.attention_blocks or adapters):
        raise ValueError(
            f"'{motion_model.model.spec.name}' is an image encoder without a motion model (the output encoder_only of its loader), "
            "which does nothing by itself. Connect it to Apply AnimateLCM-I2V Model, which takes the picture to encode; or apply "
            "the output MOTION_MODEL of the loader."
        )
    if not adapters:
        warn_without_picture(motion_model)
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
        adapters=adapters,
    )
    return apply(motion_model, settings, prev_m_models)


ApplyAnimateDiffModelSimple = node(
    applied,
    node_id="ADE_ApplyAnimateDiffModelSimple",
    display_name="AnimateDiff: Apply Model",
    category=CATEGORY,
    description="Says how strongly a motion model is applied.",
    aliases=(f"Apply AnimateDiff Model {MARK_2}",),
    inputs=[MOTION_MODEL, *STRENGTHS, sockets.KEYFRAMES, sockets.PER_BLOCK],
    outputs=OUTPUTS,
)
ApplyAnimateDiffModel = node(
    applied,
    node_id="ADE_ApplyAnimateDiffModel",
    display_name="AnimateDiff: Apply Model (Advanced)",
    category=CATEGORY,
    description="Says when and how strongly a motion model is applied. Chain several: the last one runs last.",
    aliases=(f"Apply AnimateDiff Model (Adv.) {MARK_2}",),
    inputs=[MOTION_MODEL, *RANGE, *STRENGTHS, *FURTHER],
    outputs=OUTPUTS,
)

NODES = [LoadAnimateDiffModel, ApplyAnimateDiffModelSimple, ApplyAnimateDiffModel]
