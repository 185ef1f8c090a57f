"""Camera poses for CameraCtrl: making, joining, changing and reading them."""

from collections.abc import Callable

import torch
from comfy_api.latest import io

from ...host import folders
from ...host.allowed_paths import allowed_path
from ...host.schema import schema
from ...metrics.camera_path import camera_path
from ...motion_models.adapters import camera
from ...motion_models.adapters.other_cameras import between, of_rays
from ..base import MARK_2, Node, node
from ..sockets import Socket
from ..values import above, at_least

CATEGORY = "AnimateDiff/CameraCtrl/poses"
Poses = Socket(
    "CAMERACTRL_POSES",
    "A camera pose for each frame, for a node that applies a motion model with CameraCtrl or MotionCtrl.",
)
CameraInfo = io.Custom("LOAD3D_CAMERA")
PREVIOUS = Poses.Input("prev_poses", optional=True, tooltip="Poses to go on from.")
OUTPUTS = [Poses.Output("CAMERACTRL_POSES")]
MOST = 6
LARGEST = 9007199254740991


def _motion(name: str) -> io.Input:
    return io.Combo.Input(name, options=list(camera.MOTIONS), tooltip="A movement of the camera. Static: none.")


def _strength(name: str) -> io.Input:
    tooltip = "How far the camera makes the movement above: 0 not at all, 2 twice as far."
    return io.Float.Input(name, default=1.0, min=0.0, max=10.0, step=0.01, tooltip=tooltip)


def _poses(name: str = "poses", tooltip: str = "The poses to change.") -> io.Input:
    return Poses.Input(name, tooltip=tooltip)


def _fraction(name: str, default: float, step: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0, max=1, step=step, tooltip=tooltip)


def _side(name: str, default: int, tooltip: str) -> io.Input:
    tooltip += " Only the ratio of width to height counts."
    return io.Int.Input(name, default=default, min=1, max=LARGEST, tooltip=tooltip)


SPEED_AND_LENGTH = [
    io.Float.Input(
        "speed",
        default=1.0,
        min=-100.0,
        max=100.0,
        step=0.01,
        tooltip="1: a pan of 1.5 units, or a turn of 60°, in 16 frames. Below 0 the camera moves the other way.",
    ),
    io.Int.Input("frame_length", default=16, tooltip="How many frames the movement takes; as many as the clip has."),
]


# the mark that ADE's names of these nodes end with


def _node(run: Callable, *, old_name: str, **fields) -> type[Node]:
    return node(run, category=CATEGORY, outputs=OUTPUTS, aliases=(f"{old_name} {MARK_2}",), **fields)


def _moving_node(moves: Callable, *, kind: str, motions: list[io.Input], **fields) -> type[Node]:
    """``moves``: the values of the inputs ``motions`` -> pairs of motion and strength."""
    name = f"Create CameraCtrl Poses{kind and f' ({kind})'}"

    def run(speed: float, frame_length: int, prev_poses: camera.Poses = (), **values) -> camera.Poses:
        at_least("frame_length", frame_length, 1)
        return camera.joined(prev_poses, camera.moving(moves(values), speed, frame_length))

    return _node(
        run,
        display_name=name,
        old_name=name.replace("Advanced", "Adv."),
        inputs=[*motions, *SPEED_AND_LENGTH, PREVIOUS],
        **fields,
    )


def _with_intrinsics(poses: camera.Poses, fx: float, fy: float, cx: float, cy: float) -> camera.Poses:
    for name, focal_length in (("fx", fx), ("fy", fy)):
        above(name, focal_length, 0)  # directions of rays are divided by it
    return camera.replaced(poses, {camera.FX: fx, camera.FY: fy, camera.CX: cx, camera.CY: cy})


NUMBERED = range(1, MOST + 1)


class LoadCameraPoses(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadCameraPoses",
            display_name="Load CameraCtrl Poses (File)",
            category=CATEGORY,
            description="Reads camera poses from a text file in the input folder.",
            search_aliases=[f"Load CameraCtrl Poses (File) {MARK_2}"],
            inputs=[
                io.Combo.Input(
                    "pose_filename",
                    options=folders.input_files(camera.EXTENSION),
                    tooltip="A .txt file in the input folder; press R after putting one there.",
                )
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    def fingerprint_inputs(cls, pose_filename):
        return _fingerprint(folders.input_file(pose_filename), "pose_filename")

    @classmethod
    def run(cls, pose_filename: str) -> camera.Poses:
        return camera.read_poses(allowed_path(folders.input_file(pose_filename), "pose_filename"))


class LoadCameraPosesFromPath(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_LoadCameraPosesFromPath",
            display_name="Load CameraCtrl Poses (Path)",
            category=CATEGORY,
            description="Reads camera poses from a text file in ComfyUI's folders, such as input.",
            search_aliases=[f"Load CameraCtrl Poses (Path) {MARK_2}"],
            inputs=[
                io.String.Input(
                    "file_path",
                    default="X://path/to/pose_file.txt",
                    optional=True,
                    tooltip="Path of a .txt file below ComfyUI's folders.",
                )
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    def fingerprint_inputs(cls, file_path=""):
        return _fingerprint(_unquoted(file_path), "file_path")

    @classmethod
    def run(cls, file_path: str = "") -> camera.Poses:
        path = _unquoted(file_path)
        if not path or "\0" in path:
            raise camera.PoseFileError(
                f"file_path is {ascii(path) if path else 'empty'}: no file has that name. Write the path of a text file of "
                "camera poses."
            )
        return camera.read_poses(allowed_path(path, "file_path"))


def _from_viewer(
    start: dict, frame_length: int, scale: float, end: dict | None = None, prev_poses: camera.Poses = ()
) -> camera.Poses:
    return camera.joined(prev_poses, between(start, start if end is None else end, frame_length, scale))


def _plot(poses: camera.Poses) -> torch.Tensor:
    camera.check_poses(poses, "poses")
    return camera_path(poses)


def _fingerprint(path: str, name: str) -> tuple[int, int] | None:
    """Another value when the file has changed. What may not be read is not looked at either; running the node says why."""
    try:
        return folders.fingerprint(allowed_path(path, name))
    except ValueError:
        return None


def _unquoted(path: str | None) -> str:
    # "Copy as path" of Windows puts quotes around it; a linked path is None until its node has run
    return (path or "").strip().strip('"')


NODES = [
    _moving_node(
        lambda values: [(values["motion_type"], 1.0)],
        node_id="ADE_CameraPoseBasic",
        kind="",
        description="Moves the camera in one way.",
        motions=[_motion("motion_type")],
    ),
    _moving_node(
        lambda values: [(values[f"motion_type{i}"], 1.0) for i in NUMBERED],
        node_id="ADE_CameraPoseCombo",
        kind="Combo",
        description="Moves the camera in several ways at once.",
        motions=[_motion(f"motion_type{i}") for i in NUMBERED],
    ),
    _moving_node(
        lambda values: [(values[f"motion_type{i}"], values[f"strength{i}"]) for i in NUMBERED],
        node_id="ADE_CameraPoseAdvanced",
        kind="Advanced",
        description="Moves the camera in several ways at once, each with a strength of its own.",
        motions=[each for i in NUMBERED for each in (_motion(f"motion_type{i}"), _strength(f"strength{i}"))],
    ),
    _node(
        lambda poses_first, poses_last: camera.joined(poses_first, poses_last),
        node_id="ADE_CameraManualPoseAppend",
        display_name="Append CameraCtrl Poses",
        old_name="Manual Append CameraCtrl Poses",
        description="The first poses, then the last ones starting from where the first end.",
        inputs=[
            _poses("poses_first", "The poses of the first frames."),
            _poses("poses_last", "The poses that follow."),
        ],
    ),
    _node(
        _with_intrinsics,
        node_id="ADE_ReplaceCameraParameters",
        display_name="Replace Camera Parameters",
        old_name="Replace Camera Parameters",
        description="Sets focal lengths and centre, relative to the sides of the picture.",
        inputs=[
            _poses(),
            _fraction(
                "fx",
                0.474812461,
                0.000000001,
                "Focal length over the width of the picture, above 0: less is a wider view.",
            ),
            _fraction(
                "fy",
                0.844111024,
                0.000000001,
                "Focal length over the height of the picture, above 0: less is a wider view.",
            ),
            _fraction(
                "cx",
                0.5,
                0.01,
                "Where the camera points, from the left (0) to the right (1) of the picture. 0.5: its middle.",
            ),
            _fraction(
                "cy",
                0.5,
                0.01,
                "Where the camera points, from the top (0) to the bottom (1) of the picture. 0.5: its middle.",
            ),
        ],
    ),
    _node(
        lambda poses, orig_pose_width, orig_pose_height: camera.replaced(
            poses, {camera.WIDTH: orig_pose_width, camera.HEIGHT: orig_pose_height}
        ),
        node_id="ADE_ReplaceOriginalPoseAspectRatio",
        display_name="Replace Aspect Ratio of Poses",
        old_name="Replace Orig. Pose Aspect Ratio",
        description="Sets the size of the picture that the focal lengths were measured in.",
        inputs=[
            _poses(),
            _side("orig_pose_width", 1280, "Width of the picture that the poses were measured in."),
            _side("orig_pose_height", 720, "Height of the picture that the poses were measured in."),
        ],
    ),
    LoadCameraPoses,
    LoadCameraPosesFromPath,
    node(
        _from_viewer,
        node_id="AnimateDiffCameraPosesFromCameraInfo",
        display_name="Camera Poses from 3D Viewer",
        category=CATEGORY,
        description="Moves the camera from one view of a 3D viewer (camera_info of Load 3D) to another one.",
        aliases=("Load 3D", "camera info"),
        inputs=[
            CameraInfo.Input("start", tooltip="camera_info where the clip begins, such as that of Load 3D."),
            io.Int.Input(
                "frame_length",
                default=16,
                min=1,
                max=camera.MOST_POSES,
                tooltip="How many frames the movement takes; as many as the clip has.",
            ),
            io.Float.Input(
                "scale",
                default=1.0,
                min=0.0,
                max=1000.0,
                step=0.01,
                tooltip="Multiplies the way: 1.5 units of CameraCtrl in 16 frames are a pan at speed 1.",
            ),
            CameraInfo.Input(
                "end", optional=True, tooltip="camera_info where the clip ends. Without it nothing moves."
            ),
            PREVIOUS,
        ],
        outputs=OUTPUTS,
    ),
    node(
        lambda camera_embedding, prev_poses=(): camera.joined(prev_poses, of_rays(camera_embedding)),
        node_id="AnimateDiffCameraPosesFromWanCamera",
        display_name="Camera Poses from Wan Camera",
        category=CATEGORY,
        description="The poses of the camera that ComfyUI's WanCameraEmbedding describes by its rays.",
        aliases=("WanCameraEmbedding",),
        inputs=[
            io.Custom("WAN_CAMERA_EMBEDDING").Input("camera_embedding", tooltip="From WanCameraEmbedding."),
            PREVIOUS,
        ],
        outputs=OUTPUTS,
    ),
    node(
        _plot,
        node_id="AnimateDiffPlotCameraPoses",
        display_name="Plot Camera Poses",
        category=CATEGORY,
        description="Draws where the camera stands in each frame and where it looks, from above and from the side.",
        inputs=[_poses(tooltip="The poses to draw.")],
        outputs=[io.Image.Output("IMAGE", tooltip="The drawing, for Preview Image.")],
    ),
]
