"""AnimateLCM-I2V: motion models that take a picture to start from."""

from comfy_api.latest import io

from ...host import folders
from ...host.patcher import parts, with_parts
from ...host.schema import schema
from ...motion_models.adapters.image_encoder import IMAGE_ENCODER, load_animatelcm_i2v, load_image_encoder
from ...motion_models.files.adjust import Adjustments
from ...sampling.adapters.image_to_video import ImageToVideo
from ...sampling.motion.applied import MotionModels
from .. import sockets
from ..base import MARK_2, node
from ..file_nodes import FileNode, read_once
from .apply import FURTHER, MOTION_MODEL, OUTPUTS, RANGE, STRENGTHS, applied

CATEGORY = "AnimateDiff/AnimateLCM-I2V"


class LoadAnimateLCMI2VModel(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadAnimateLCMI2VModel",
            display_name="Load AnimateLCM-I2V Model",
            category=CATEGORY,
            description="Loads an AnimateLCM-I2V file: its motion model, and its image encoder alone.",
            search_aliases=[f"Load AnimateLCM-I2V Model {MARK_2}", "image to video"],
            inputs=[sockets.motion_model_name(), sockets.SETTINGS],
            outputs=[
                sockets.MotionModelSocket.Output("MOTION_MODEL"),
                sockets.MotionModelSocket.Output(
                    "encoder_only",
                    tooltip="The image encoder without the motion model, for Apply AnimateLCM-I2V Model.",
                ),
            ],
        )

    @classmethod
    def run(cls, model_name: str, ad_settings: Adjustments | None = None) -> io.NodeOutput:
        return io.NodeOutput(*load_animatelcm_i2v(folders.full_path(folders.MOTION_MODELS, model_name), ad_settings))


def _apply(motion_model, ref_latent: dict, ref_drift: float, apply_ref_when_disabled: bool, **shared) -> MotionModels:
    encoder = parts(motion_model).get(IMAGE_ENCODER)
    if encoder is None:
        raise ValueError(
            f"The motion model '{motion_model.model.spec.name}' has no image encoder. Load an AnimateLCM-I2V file with Load "
            "AnimateLCM-I2V Model, or give this one the encoder of such a file with Inject I2V into AnimateDiff Model; or "
            "apply it with AnimateDiff: Apply Model."
        )
    shape = tuple(ref_latent["samples"].shape)
    if len(shape) != 4 or shape[1] != encoder.model.latent_channels:
        raise ValueError(
            f"ref_latent has the shape {shape}, but the image encoder of '{motion_model.model.spec.name}' takes pictures of "
            f"{encoder.model.latent_channels} channels. Encode the picture with the VAE of the checkpoint that samples the clip."
        )
    adapter = ImageToVideo(encoder, ref_latent["samples"], ref_drift, apply_ref_when_disabled)
    return applied(motion_model, adapters=(adapter,), **shared)


ApplyAnimateLCMI2VModel = node(
    _apply,
    node_id="ADE_ApplyAnimateLCMI2VModel",
    display_name="Apply AnimateLCM-I2V Model",
    old_name="Apply AnimateLCM-I2V Model",
    category=CATEGORY,
    description="Applies a motion model with an image encoder: the clip starts from a picture, and follows it.",
    inputs=[
        MOTION_MODEL,
        io.Latent.Input(
            "ref_latent",
            tooltip="The picture as latents (VAE Encode). Of several, each is for one frame; the last one serves the rest.",
        ),
        io.Float.Input(
            "ref_drift",
            default=0.0,
            min=0.0,
            max=10.0,
            step=0.001,
            tooltip="How far frames drift away from the picture: above 0 the encoder sets them apart. 0 stays closest.",
        ),
        io.Boolean.Input(
            "apply_ref_when_disabled",
            default=False,
            tooltip="Let the picture count where the motion model does not: outside its percent range, or at effect 0.",
        ),
        *RANGE,
        *STRENGTHS,
        *FURTHER,
    ],
    outputs=OUTPUTS,
)


class InjectI2VIntoAnimateDiffModel(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_InjectI2VIntoAnimateDiffModel",
            display_name="Inject I2V into AnimateDiff Model",
            category=CATEGORY,
            description="Gives a motion model the image encoder of an AnimateLCM-I2V file: an experiment, not trained so.",
            search_aliases=[f"\U0001f9eaInject I2V into AnimateDiff Model {MARK_2}"],
            inputs=[
                sockets.motion_model_name(),
                MOTION_MODEL,
                sockets.Settings.Input("ad_settings", optional=True, tooltip="No effect: it is about motion modules."),
            ],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, motion_model, ad_settings: Adjustments | None = None):
        path = folders.full_path(folders.MOTION_MODELS, model_name)
        encoder = read_once(IMAGE_ENCODER, path, lambda: load_image_encoder(path))
        return with_parts(motion_model, {IMAGE_ENCODER: encoder})


NODES = [LoadAnimateLCMI2VModel, ApplyAnimateLCMI2VModel, InjectI2VIntoAnimateDiffModel]
