"""Camera poses as CameraCtrl takes them (arXiv 2404.02101): making them from named motions, joining, reading.

A pose says for one frame how the camera stands and what it sees. As other packs make and read them too, it is a list of
19 numbers: ``[time, fx, fy, cx, cy, width, height, r11, r12, r13, t1, r21, …, t3]``: intrinsics relative to the picture's
sides, the size of the picture that they were measured in (only its aspect ratio counts), and row by row the 3x4 matrix
from the world's coordinates to the camera's. Poses are never changed in place.
"""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from ...host.told import Told
from ..files.errors import outside_cause

# motion -> direction of translation, and of rotation about x, y and z
MOTIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Static": ((0, 0, 0), (0, 0, 0)),
    "Pan Up": ((0, 1, 0), (0, 0, 0)),
    "Pan Down": ((0, -1, 0), (0, 0, 0)),
    "Pan Left": ((1, 0, 0), (0, 0, 0)),
    "Pan Right": ((-1, 0, 0), (0, 0, 0)),
    "Zoom In": ((0, 0, -2), (0, 0, 0)),
    "Zoom Out": ((0, 0, 2), (0, 0, 0)),
    "Roll Clockwise": ((0, 0, 0), (0, 0, -1)),
    "Roll Anticlockwise": ((0, 0, 0), (0, 0, 1)),
    "Tilt Down": ((0, 0, 0), (1, 0, 0)),
    "Tilt Up": ((0, 0, 0), (-1, 0, 0)),
    "Tilt Left": ((0, 0, 0), (0, 1, 0)),
    "Tilt Right": ((0, 0, 0), (0, -1, 0)),
}
# At speed 1 and strength 1, 16 frames move by this much.
FRAMES = 16
TRANSLATION = 1.5
ROTATION = math.pi / 3

Pose = list[float]
Poses = list[Pose]
NUMBERS = 19
FX, FY, CX, CY, WIDTH, HEIGHT = range(1, 7)
MATRIX = slice(7, NUMBERS)
# As many frames as the longest clips have, those of Empty Latent Image (Big Batch).
MOST_POSES = 262_144
EXTENSION = ".txt"
# Of a file of poses: some 10,000 lines. A clip takes one line for each frame.
MAX_BYTES = 4 << 20
INTRINSICS = (0.474812461, 0.844111024, 0.5, 0.5, 1280.0, 720.0)


class PoseFileError(Told, ValueError):
    """A file that holds no camera poses; the message says what is wrong, and what its lines must look like."""


def moving(motions: Sequence[tuple[str, float]], speed: float, frames: int) -> Poses:
    """Poses of ``frames`` frames that move by the sum of ``motions`` (name, strength), from the world's origin on.

    Raises ValueError for more than MOST_POSES.
    """
    check_count(frames)
    shift, turn = np.sum([np.multiply(MOTIONS[name], strength) for name, strength in motions], axis=0)
    way = (np.arange(frames) / FRAMES * speed)[:, None]
    matrices = np.concatenate([_rotations(way * ROTATION * turn), (way * TRANSLATION * shift)[:, :, None]], axis=2)
    return [[0.0, *INTRINSICS, *matrix] for matrix in matrices.reshape(frames, -1).tolist()]


def check_count(poses: int) -> None:
    """Raise ValueError for more than MOST_POSES."""
    if poses > MOST_POSES:
        raise ValueError(
            f"These are {poses} camera poses, but a clip has at most {MOST_POSES} frames. Lower frame_length, or join fewer "
            "poses."
        )


def _rotations(angles: np.ndarray) -> np.ndarray:
    """``(frames, 3)`` -> ``(frames, 3, 3)``: turn about x, then y, then z, by angles in radians."""
    sin, cos = np.sin(angles).T, np.cos(angles).T
    no, one = np.zeros(len(angles)), np.ones(len(angles))
    about_x = [[one, no, no], [no, cos[0], -sin[0]], [no, sin[0], cos[0]]]
    about_y = [[cos[1], no, sin[1]], [no, one, no], [-sin[1], no, cos[1]]]
    about_z = [[cos[2], -sin[2], no], [sin[2], cos[2], no], [no, no, one]]
    about_x, about_y, about_z = (np.moveaxis(np.array(rows), 2, 0) for rows in (about_x, about_y, about_z))
    return about_z @ about_y @ about_x


def joined(first: Poses, then: Poses) -> Poses:
    """``first``, then ``then`` starting from where ``first`` ends. Every pose keeps its intrinsics.

    Raises ValueError for more than MOST_POSES.
    """
    check_count(len(first) + len(then))
    if not first or not then:
        return [*first, *then]
    end = np.vstack([_matrices(first[-1:])[0], [0, 0, 0, 1]])
    moved = (_matrices(then) @ end).reshape(len(then), -1).tolist()
    return [*first, *([*pose[: MATRIX.start], *matrix] for pose, matrix in zip(then, moved, strict=True))]


def check_poses(poses: Poses, name: str) -> None:
    """Raise ValueError, with the input's ``name``, unless every pose is a camera through which something can be seen."""
    if not poses:
        raise ValueError(f"{name} holds no camera poses. Connect at least one, for example of Create CameraCtrl Poses.")
    try:
        numbers = np.array([pose[1:] for pose in poses], dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} holds things other than numbers. Connect camera poses of {NUMBERS} numbers for each frame."
        ) from None
    found = np.linalg.det(numbers[:, 6:].reshape(-1, 3, 4)[:, :, :3])
    sees = np.isfinite(numbers).all(axis=1) & (numbers[:, [0, 1, 4, 5]] > 0).all(axis=1) & (np.abs(found) > 1e-6)
    if not sees.all():
        raise ValueError(
            f"Pose {int(np.argmin(sees))} (counted from 0) of {name} is no camera: fx, fy, width and height must be above 0, and "
            "the 3x3 part of its matrix a rotation. Correct the file of camera poses, or the node that makes them."
        )


def _matrices(poses: Poses) -> np.ndarray:
    return np.array([pose[MATRIX] for pose in poses], dtype=float).reshape(len(poses), 3, 4)


def replaced(poses: Poses, values: Mapping[int, float]) -> Poses:
    """``poses`` with other numbers at some positions (FX, FY, …)."""
    return [[values.get(i, number) for i, number in enumerate(pose)] for pose in poses]


def read_poses(path: str) -> Poses:
    """The poses of a text file: a title line, then one line of numbers for each frame (as RealEstate10K has them).

    The two numbers behind the intrinsics, which are 0 there, are taken as 1280 and 720. Raises PoseFileError, and OSErrors
    with a message that says what to do.
    """
    if not path.lower().endswith(EXTENSION) or (os.path.exists(path) and not os.path.isfile(path)):
        raise PoseFileError(
            f"'{path}' is no {EXTENSION} file, in which camera poses are kept. Give the path of one, with a title line and then "
            f"a line of {NUMBERS} numbers for each frame."
        )
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, MemoryError) as error:
        raise outside_cause(path, error) or error from error
    if len(text) > MAX_BYTES:
        raise PoseFileError(
            f"'{path}' is larger than {MAX_BYTES >> 20} MB, which no file of camera poses is. Give the path of a text file of "
            "camera poses."
        )
    try:
        lines = text.decode("utf-8").splitlines()[1:]
    except UnicodeDecodeError as error:
        raise PoseFileError(f"'{path}' is no text ({error}). Give the path of a text file of camera poses.") from None
    poses = [_pose(line, f"Line {number} of '{path}'") for number, line in enumerate(lines, 2) if line.strip()]
    if not poses:
        raise PoseFileError(
            f"'{path}' holds no camera poses: nothing follows its first line, which is skipped. Write one line of "
            f"{NUMBERS} numbers for each frame below it."
        )
    return replaced(poses, {WIDTH: INTRINSICS[4], HEIGHT: INTRINSICS[5]})


def _pose(line: str, where: str) -> Pose:
    try:
        pose = [float(word) for word in line.split()]
    except ValueError:
        pose = []
    if len(pose) != NUMBERS or not all(map(math.isfinite, pose)):
        raise PoseFileError(
            f"{where} is no camera pose. After the first line, which is skipped, each line must hold {NUMBERS} finite numbers: "
            "time, fx, fy, cx, cy, two that are not used, and the 3x4 matrix from world to camera, row by row."
        )
    return pose
