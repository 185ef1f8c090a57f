"""Motion paths of the camera: of numbers, and of camera poses."""

from comfy_api.latest import io

from ...motion_models.adapters.camera import Poses as PoseList
from ...motion_models.adapters.camera import check_poses
from ...sampling.paths.camera import MOST_ROLL, ZOOMS, from_moves, from_poses
from ...sampling.paths.keys import FARTHEST
from ...sampling.paths.path import MotionPath
from ...sampling.schedules.interpolation import METHODS
from ...scheduling.places import cameras, parse_places
from .. import sockets
from ..base import node
from ..motion_models.camera import Poses
from ..values import above, at_least, at_most
from .motion_paths import CATEGORY, OUTPUTS, pixels

NOISE = io.Float.Input(
    "noise",
    default=1.0,
    min=0.0,
    max=1.0,
    step=0.01,
    tooltip="How much of the coarse noise moves with the camera. Costs no time. 0: none.",
)
PREVIOUS = sockets.MotionPath.Input(
    "prev_path", optional=True, tooltip="The paths of things in the picture, which this one joins."
)


def _check_noise(noise: float) -> None:
    at_least("noise", noise, 0)
    at_most("noise", noise, 1, "1 is the same coarse noise for all frames")


def _moves(moves: str, ease: str, noise: float, prev_path: MotionPath | None = None) -> MotionPath:
    _check_noise(noise)
    found = parse_places("moves", moves, cameras(FARTHEST, ZOOMS, MOST_ROLL))
    return MotionPath(camera=from_moves(found, ease, noise)).and_also(prev_path)


def _poses(
    poses: PoseList, depth: float, width: int, height: int, noise: float, prev_path: MotionPath | None = None
) -> MotionPath:
    _check_noise(noise)
    above("depth", depth, 0)
    check_poses(poses, "poses")
    return MotionPath(camera=from_poses(poses, depth, width / height, noise)).and_also(prev_path)


NODES = [
    node(
        _moves,
        node_id="AnimateDiffCameraPath",
        display_name="Camera Path",
        category=CATEGORY,
        description="A camera that pans, zooms and rolls: the noise of the whole picture moves with it. For Follow Path.",
        aliases=("pan", "zoom", "roll", "camera motion", "trajectory"),
        inputs=[
            io.String.Input(
                "moves",
                multiline=True,
                default="0: 0,0  15: 0.3,0",
                tooltip=(
                    "Frames and how far the camera has gone by then, as shares of the picture: 0: 0,0  15: 0.3,0 goes to the right. "
                    "x is to the right, y down. A third number is the zoom (2: twice as near), a fourth the roll in degrees, clockwise."
                ),
            ),
            io.Combo.Input(
                "ease",
                options=list(METHODS),
                tooltip="How it goes from move to move: linear evenly, ease_in begins slowly, ease_out ends slowly, ease_in_out both.",
            ),
            NOISE,
            PREVIOUS,
        ],
        outputs=OUTPUTS,
    ),
    node(
        _poses,
        node_id="AnimateDiffCameraPathFromPoses",
        display_name="Camera Path from Poses",
        category=CATEGORY,
        description="The path of a camera whose poses are those of CameraCtrl, for any motion model. For Follow Path.",
        aliases=("CameraCtrl", "camera motion", "trajectory"),
        inputs=[
            Poses.Input("poses", tooltip="Such as those of Create CameraCtrl Poses."),
            io.Float.Input(
                "depth",
                default=6.0,
                min=0.01,
                max=10000.0,
                step=0.1,
                tooltip=(
                    "How far away the scene is, in units of the poses: a pan at speed 1 goes 1.5 of them in 16 frames. Nearer scenes "
                    "move more."
                ),
            ),
            pixels("width", "The width of the clip. Only the ratio to height counts."),
            pixels("height", "The height of the clip."),
            NOISE,
            PREVIOUS,
        ],
        outputs=OUTPUTS,
    ),
]
