"""AnimateLCM-I2V: motion models that take a picture to start from."""

from comfy_api.latest import io

from ...host import folders
from ...host.schema import schema
from ...motion_models.adapters.image_encoder import load_animatelcm_i2v
from ...motion_models.files.adjust import Adjustments
from .. import sockets
from ..base import Node


class LoadAnimateLCMI2VModel(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadAnimateLCMI2VModel",
            display_name="Load AnimateLCM-I2V Model",
            category="AnimateDiff/AnimateLCM-I2V",
            description="Loads the motion model of an AnimateLCM-I2V file. Its image encoder cannot be applied yet.",
            search_aliases=["Load AnimateLCM-I2V Model 🎭🅐🅓②", "image to video"],
            inputs=[sockets.motion_model_name(), sockets.SETTINGS],
            outputs=[
                sockets.MotionModelSocket.Output("MOTION_MODEL"),
                sockets.MotionModelSocket.Output("encoder_only"),
            ],
        )

    @classmethod
    def run(cls, model_name: str, ad_settings: Adjustments | None = None) -> io.NodeOutput:
        return io.NodeOutput(*load_animatelcm_i2v(folders.full_path(folders.MOTION_MODELS, model_name), ad_settings))


NODES = [LoadAnimateLCMI2VModel]
