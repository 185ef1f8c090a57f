"""CameraCtrl: motion models that follow the movement of a camera."""

from ...host import folders
from ...host.patcher import parts
from ...host.schema import schema
from ...motion_models.adapters import camera
from ...motion_models.adapters.camera_control import CAMERA_CONTROL, load_with_camera_control
from ...motion_models.files.adjust import Adjustments
from ...sampling.adapters.camera_control import MULTIVAL, CameraControl
from ...sampling.motion.applied import MotionModels
from ...sampling.strength.multival import Multival
from .. import sockets
from ..base import MARK_2, node
from ..file_nodes import FileNode
from .apply import FURTHER, MOTION_MODEL, OUTPUTS, RANGE, STRENGTHS, applied
from .camera import Poses
from .keyframes import keyframe_node

CATEGORY = "AnimateDiff/CameraCtrl"


class LoadWithCameraCtrl(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadAnimateDiffModelWithCameraCtrl",
            display_name="AnimateDiff: Load Model with CameraCtrl",
            category=CATEGORY,
            description="Loads a motion model and the CameraCtrl file that steers its camera.",
            search_aliases=[f"Load AnimateDiff+CameraCtrl Model {MARK_2}"],
            inputs=[
                sockets.motion_model_name(),
                sockets.file_of(folders.MOTION_MODELS, "camera_ctrl", "CameraCtrl files"),
                sockets.SETTINGS,
            ],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, camera_ctrl: str, ad_settings: Adjustments | None = None):
        path, camera_path = (folders.full_path(folders.MOTION_MODELS, name) for name in (model_name, camera_ctrl))
        return load_with_camera_control(path, camera_path, ad_settings)


def _apply(
    motion_model, cameractrl_poses: camera.Poses, cameractrl_multival: Multival | None = None, **shared
) -> MotionModels:
    control = parts(motion_model).get(CAMERA_CONTROL)
    if control is None:
        raise ValueError(
            f"The motion model '{motion_model.model.spec.name}' was loaded without CameraCtrl. Load it with AnimateDiff: Load Model "
            "with CameraCtrl; or apply it with AnimateDiff: Apply Model."
        )
    camera.check_poses(cameractrl_poses, "cameractrl_poses")
    adapter = CameraControl(control, cameractrl_poses, cameractrl_multival)
    return applied(motion_model, adapters=(adapter,), **shared)


NODES = [
    LoadWithCameraCtrl,
    node(
        _apply,
        node_id="ADE_ApplyAnimateDiffModelWithCameraCtrl",
        display_name="AnimateDiff: Apply Model with CameraCtrl",
        aliases=(f"Apply AnimateDiff+CameraCtrl Model {MARK_2}",),
        category=CATEGORY,
        description="Applies a motion model whose camera moves along poses.",
        inputs=[
            MOTION_MODEL,
            Poses.Input("cameractrl_poses", tooltip="One pose for each frame; the last one serves the rest."),
            *RANGE,
            *STRENGTHS,
            sockets.Multival.Input(
                MULTIVAL, optional=True, tooltip="How strongly the camera counts: 0 not at all. Default 1."
            ),
            *FURTHER,
        ],
        outputs=OUTPUTS,
    ),
    keyframe_node(
        node_id="ADE_CameraCtrlAnimateDiffKeyframe",
        display_name="CameraCtrl AnimateDiff Keyframe",
        old_name="CameraCtrl AnimateDiff Keyframe",
        category=CATEGORY,
        description="Changes the strength of the camera, scale and effect at a place in the sampling schedule.",
        own=sockets.Multival.Input(
            MULTIVAL, optional=True, tooltip="Multiplies cameractrl_multival of the Apply node."
        ),
    ),
]
