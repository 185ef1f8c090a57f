"""Cameras of ComfyUI's own nodes as camera poses: what its 3D viewers show, and the rays that Wan's camera node makes."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from .camera import HEIGHT, INTRINSICS, WIDTH, Poses, check_count

# From a camera that looks down its -z axis with y up (OpenGL, three.js) to one that looks along z with y down.
TO_LOOK_ALONG_Z = np.diag([1.0, -1.0, -1.0])
WAN_CHANNELS, WAN_TOGETHER = 6, 4  # of a ray; frames that share one of the video's latents


def between(start: Mapping, end: Mapping, frames: int, scale: float = 1.0) -> Poses:
    """Poses of ``frames`` frames on the straight way from one camera of a 3D viewer to another one.

    Places and fields of view change evenly, and so does the angle about the axis between the directions (Shoemake,
    "Animating rotation with quaternion curves"). ``scale`` multiplies places. Raises ValueError for what is no such camera.
    """
    check_count(frames)
    (place, turn, fov, aspect), (last_place, last_turn, last_fov, _) = _viewer(start), _viewer(end)
    poses = []
    for i in range(frames):
        t = i / max(frames - 1, 1)
        rotation = _rotation(_slerp(turn, last_turn, t)) @ TO_LOOK_ALONG_Z
        centre = ((1 - t) * place + t * last_place) * scale
        fy = 0.5 / ((1 - t) * fov + t * last_fov)
        poses.append(_pose(rotation, centre, fy / aspect, fy, aspect))
    return poses


def _viewer(info: Mapping) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Place, quaternion (x, y, z, w), half of the picture's height at distance 1 (twice), and width / height."""
    try:
        place, target = (np.array([float(info[name][axis]) for axis in "xyz"]) for name in ("position", "target"))
        given = info.get("quaternion")
        turn = _looking(place, target) if not given else np.array([float(given[axis]) for axis in "xyzw"])
        tangent = math.tan(math.radians(float(info.get("fov") or 35.0)) / 2) / float(info.get("zoom") or 1.0)
        aspect = float(info.get("aspect") or INTRINSICS[4] / INTRINSICS[5])
        length = float(np.linalg.norm(turn))
    except (AttributeError, KeyError, TypeError, ValueError):
        length, tangent, aspect, place, turn = 0.0, 0.0, 0.0, np.zeros(3), np.zeros(4)
    if not (np.isfinite([*place, *turn]).all() and length > 1e-6 and 0 < tangent < 1e3 and 0 < aspect < 1e3):
        raise ValueError(
            "What is connected is no camera of a 3D viewer: it lacks a position, a target, a direction or a field of view below "
            "180 degrees. Connect camera_info of Load 3D, or of another node that gives it."
        )
    return place, turn / length, tangent, aspect


def _looking(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The quaternion of a camera at ``place`` that looks at ``target``, with the world's y up."""
    back = place - target
    distance = float(np.linalg.norm(back))
    if not distance > 0:
        raise ValueError("the target is where the camera stands")
    back = back / distance
    up = np.array([0.0, 1.0, 0.0]) if abs(back[1]) < 0.999 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, back)
    right = right / np.linalg.norm(right)
    return _quaternion(np.stack([right, np.cross(back, right), back], axis=1))


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """The eigenvector to the eigenvalue 1 of a symmetric matrix (Bar-Itzhack, 2000): (x, y, z, w)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    k = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def _slerp(first: np.ndarray, last: np.ndarray, t: float) -> np.ndarray:
    cosine = float(first @ last)
    if cosine < 0:  # the shorter way round
        last, cosine = -last, -cosine
    angle = math.acos(min(cosine, 1.0))
    if angle < 1e-6:
        return first
    return (math.sin((1 - t) * angle) * first + math.sin(t * angle) * last) / math.sin(angle)


def _pose(to_world: np.ndarray, centre: np.ndarray, fx: float, fy: float, aspect: float) -> list[float]:
    """``to_world``: the camera's axes in the world; ``centre``: where it stands."""
    matrix = np.concatenate([to_world.T, -(to_world.T @ centre)[:, None]], axis=1)
    pose = [0.0, fx, fy, 0.5, 0.5, INTRINSICS[5] * aspect, INTRINSICS[5], *matrix.flatten()]
    return [float(number) for number in pose]


def of_rays(embedding: torch.Tensor) -> Poses:
    """The poses of the camera whose rays Wan's camera node gives, ``(1, 24, latents, height, width)``.

    The first frame is there four times; ``rays`` of plucker.py says what a ray is. Raises ValueError for other tensors.
    """
    if embedding.ndim != 5 or embedding.shape[1] != WAN_CHANNELS * WAN_TOGETHER or min(embedding.shape[3:]) < 2:
        raise ValueError(
            f"camera_embedding has the shape {tuple(embedding.shape)}, but that of a camera is (1, 24, latents, height, width). "
            "Connect WanCameraEmbedding."
        )
    height, width = embedding.shape[3:]
    packed = embedding[0].float().cpu().unflatten(0, (WAN_CHANNELS, WAN_TOGETHER))
    frames = packed.permute(2, 1, 0, 3, 4).flatten(0, 1)[WAN_TOGETHER - 1 :]  # (frames, 6, height, width)
    check_count(len(frames))
    moments, directions = frames.double().flatten(2).split(3, dim=1)
    (fx, cx), (fy, cy) = _intrinsics(directions[0].numpy(), height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    seen = np.stack([(x / width - cx) / fx, (y / height - cy) / fy, np.ones_like(x)]).reshape(3, -1)
    seen = seen / np.linalg.norm(seen, axis=0)
    poses = []
    for moment, direction in zip(moments.numpy(), directions.numpy(), strict=True):
        left, _, right = np.linalg.svd(
            direction @ seen.T
        )  # the rotation that brings `seen` to `direction` (Kabsch, 1976)
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        pose = _pose(rotation, _origin(moment, direction), fx, fy, width / height)
        pose[3:5] = cx, cy
        pose[WIDTH], pose[HEIGHT] = float(width), float(height)
        poses.append(pose)
    return poses


def _intrinsics(direction: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """``(fx, cx)`` and ``(fy, cy)``, relative to the sides, of a camera that stands as the world does."""
    y, x = np.mgrid[:height, :width] + 0.5
    lines = ((x.flatten() / width, direction[0]), (y.flatten() / height, direction[1]))
    # place / side = f * slope + c, on a straight line
    return tuple(np.polyfit(along / direction[2], place, 1) for place, along in lines)


def _origin(moment: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The point o that fits ``moment = o x direction`` best, for unit directions."""
    normal = direction.shape[1] * np.eye(3) - direction @ direction.T
    return np.linalg.solve(normal, np.cross(direction.T, moment.T).sum(axis=0))
