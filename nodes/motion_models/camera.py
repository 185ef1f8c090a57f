"""Camera poses for CameraCtrl: making, joining, changing and reading them."""

from collections.abc import Callable

from comfy_api.latest import io

from ...host import folders
from ...host.schema import schema
from ...motion_models.adapters import camera
from ..make import node

CATEGORY = "AnimateDiff/CameraCtrl/poses"
Poses = io.Custom("CAMERACTRL_POSES")
PREVIOUS = Poses.Input("prev_poses", optional=True, tooltip="Poses to go on from.")
OUTPUTS = [Poses.Output("CAMERACTRL_POSES")]
MOST = 6
LARGEST = 9007199254740991


def _motion(name: str) -> io.Input:
    return io.Combo.Input(name, options=list(camera.MOTIONS), tooltip="A movement of the camera.")


def _strength(name: str) -> io.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=10.0, step=0.01)


SPEED_AND_LENGTH = [
    io.Float.Input(
        "speed", default=1.0, min=-100.0, max=100.0, step=0.01, tooltip="Below 0 the camera moves the other way."
    ),
    io.Int.Input("frame_length", default=16, tooltip="How many frames."),
]


def _fields(node_id: str, name: str, description: str, old_name: str) -> dict:
    return {
        "node_id": node_id,
        "display_name": name,
        "category": CATEGORY,
        "description": description,
        "search_aliases": [f"{old_name} 🎭🅐🅓②"],
    }


def _node(node_id: str, name: str, description: str, inputs: list[io.Input], run: Callable, old_name: str) -> type:
    return node(run, inputs, OUTPUTS, **_fields(node_id, name, description, old_name))


def _moving_node(node_id: str, kind: str, description: str, motions: list[io.Input], of: Callable) -> type:
    def run(speed=1.0, frame_length=camera.FRAMES, prev_poses=(), **values):
        return camera.joined(prev_poses, camera.moving(of(values), speed, frame_length))

    return _node(
        node_id,
        f"Create CameraCtrl Poses{kind and f' ({kind})'}",
        description,
        [*motions, *SPEED_AND_LENGTH, PREVIOUS],
        run,
        f"Create CameraCtrl Poses{kind and f' ({kind})'}".replace("Advanced", "Adv."),
    )


NUMBERED = range(1, MOST + 1)


class LoadCameraPoses(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            **_fields(
                "ADE_LoadCameraPoses",
                "Load CameraCtrl Poses (File)",
                "Reads camera poses from a text file in the input folder.",
                "Load CameraCtrl Poses (File)",
            ),
            inputs=[
                io.Combo.Input(
                    "pose_filename",
                    options=folders.input_files(".txt"),
                    tooltip="A .txt file in the input folder; press R after putting one there.",
                )
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    def fingerprint_inputs(cls, pose_filename):
        return folders.fingerprint(folders.input_file(pose_filename))

    @classmethod
    def execute(cls, pose_filename):
        return io.NodeOutput(camera.read_poses(folders.input_file(pose_filename)))


class LoadCameraPosesFromPath(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            **_fields(
                "ADE_LoadCameraPosesFromPath",
                "Load CameraCtrl Poses (Path)",
                "Reads camera poses from a text file anywhere on this machine.",
                "Load CameraCtrl Poses (Path)",
            ),
            inputs=[
                io.String.Input(
                    "file_path", default="X://path/to/pose_file.txt", optional=True, tooltip="Path of the file."
                )
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    def fingerprint_inputs(cls, file_path=""):
        return folders.fingerprint(_unquoted(file_path))

    @classmethod
    def execute(cls, file_path=""):
        return io.NodeOutput(camera.read_poses(_unquoted(file_path)))


def _unquoted(path: str | None) -> str:
    # "Copy as path" of Windows puts quotes around it; a linked path is None until its node has run
    return (path or "").strip().strip('"')


NODES = [
    _moving_node(
        "ADE_CameraPoseBasic",
        "",
        "Moves the camera in one way.",
        [_motion("motion_type")],
        lambda values: [(values["motion_type"], 1.0)],
    ),
    _moving_node(
        "ADE_CameraPoseCombo",
        "Combo",
        "Moves the camera in several ways at once.",
        [_motion(f"motion_type{i}") for i in NUMBERED],
        lambda values: [(values[f"motion_type{i}"], 1.0) for i in NUMBERED],
    ),
    _moving_node(
        "ADE_CameraPoseAdvanced",
        "Advanced",
        "Moves the camera in several ways at once, each with a strength of its own.",
        [each for i in NUMBERED for each in (_motion(f"motion_type{i}"), _strength(f"strength{i}"))],
        lambda values: [(values[f"motion_type{i}"], values[f"strength{i}"]) for i in NUMBERED],
    ),
    _node(
        "ADE_CameraManualPoseAppend",
        "Append CameraCtrl Poses",
        "The first poses, then the last ones starting from where the first end.",
        [Poses.Input("poses_first"), Poses.Input("poses_last")],
        lambda poses_first, poses_last: camera.joined(poses_first, poses_last),
        "Manual Append CameraCtrl Poses",
    ),
    _node(
        "ADE_ReplaceCameraParameters",
        "Replace Camera Parameters",
        "Sets focal lengths and centre, relative to the sides of the picture.",
        [
            Poses.Input("poses"),
            io.Float.Input("fx", default=0.474812461, min=0, max=1, step=0.000000001),
            io.Float.Input("fy", default=0.844111024, min=0, max=1, step=0.000000001),
            io.Float.Input("cx", default=0.5, min=0, max=1, step=0.01),
            io.Float.Input("cy", default=0.5, min=0, max=1, step=0.01),
        ],
        lambda poses, fx, fy, cx, cy: camera.replaced(
            poses, {camera.FX: fx, camera.FY: fy, camera.CX: cx, camera.CY: cy}
        ),
        "Replace Camera Parameters",
    ),
    _node(
        "ADE_ReplaceOriginalPoseAspectRatio",
        "Replace Aspect Ratio of Poses",
        "Sets the size of the picture that the focal lengths were measured in.",
        [
            Poses.Input("poses"),
            io.Int.Input("orig_pose_width", default=1280, min=1, max=LARGEST),
            io.Int.Input("orig_pose_height", default=720, min=1, max=LARGEST),
        ],
        lambda poses, orig_pose_width, orig_pose_height: camera.replaced(
            poses, {camera.WIDTH: orig_pose_width, camera.HEIGHT: orig_pose_height}
        ),
        "Replace Orig. Pose Aspect Ratio",
    ),
    LoadCameraPoses,
    LoadCameraPosesFromPath,
]
