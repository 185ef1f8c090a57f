"""MotionCtrl's camera: motion models that follow the movement of a camera."""

from comfy_api.latest import io

from ...host import folders
from ...host.patcher import parts
from ...host.schema import schema
from ...motion_models.adapters import camera
from ...motion_models.adapters.motion_ctrl import MOTION_CTRL, load_with_motion_ctrl
from ...motion_models.files.adjust import Adjustments
from ...sampling.adapters.motion_ctrl import MotionCtrl
from ...sampling.motion.applied import MotionModels
from .. import sockets
from ..base import node
from ..file_nodes import FileNode
from .apply import FURTHER, MOTION_MODEL, OUTPUTS, RANGE, STRENGTHS, applied
from .camera import Poses

CATEGORY = "AnimateDiff/MotionCtrl"


class LoadWithMotionCtrl(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffLoadMotionModelWithMotionCtrl",
            display_name="AnimateDiff: Load Model with MotionCtrl",
            category=CATEGORY,
            description="Loads a motion model and the file of MotionCtrl (CMCM) that steers its camera.",
            search_aliases=["MotionCtrl", "CMCM", "camera"],
            inputs=[
                sockets.motion_model_name(),
                sockets.file_of(folders.MOTION_MODELS, "motionctrl", "MotionCtrl files"),
                io.Boolean.Input(
                    "tuned_motion",
                    default=True,
                    tooltip="Take the motion weights that the MotionCtrl file holds in place of the motion model's own.",
                ),
                sockets.SETTINGS,
            ],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, motionctrl: str, tuned_motion: bool, ad_settings: Adjustments | None = None):
        path, camera_path = (folders.full_path(folders.MOTION_MODELS, name) for name in (model_name, motionctrl))
        return load_with_motion_ctrl(path, camera_path, tuned_motion, ad_settings)


def _apply(motion_model, poses: camera.Poses, **shared) -> MotionModels:
    part = parts(motion_model).get(MOTION_CTRL)
    if part is None:
        raise ValueError(
            f"The motion model '{motion_model.model.spec.name}' was loaded without MotionCtrl. Load it with AnimateDiff: Load Model "
            "with MotionCtrl; or apply it with AnimateDiff: Apply Model."
        )
    camera.check_poses(poses, "poses")
    return applied(motion_model, adapters=(MotionCtrl(part, poses),), **shared)


NODES = [
    LoadWithMotionCtrl,
    node(
        _apply,
        node_id="AnimateDiffApplyMotionCtrlCamera",
        display_name="AnimateDiff: Apply Model with MotionCtrl",
        category=CATEGORY,
        description="Applies a motion model whose camera moves along poses, by MotionCtrl.",
        aliases=("MotionCtrl", "CMCM"),
        inputs=[
            MOTION_MODEL,
            Poses.Input("poses", tooltip="One pose for each frame; the last one serves the rest."),
            *RANGE,
            *STRENGTHS,
            *FURTHER,
        ],
        outputs=OUTPUTS,
    ),
]
