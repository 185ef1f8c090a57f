"""Rays of a moving camera: for each pixel of each frame, the line along which the camera looks.

CameraCtrl (He et al., arXiv 2404.02101), section 3.2: Plücker coordinates ``(o x d, d)`` of the ray through a pixel, with
the camera's centre o and the ray's direction d in world coordinates.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .camera import CX, CY, FX, FY, HEIGHT, MATRIX, WIDTH, Pose


def to_world(poses: Sequence[Pose]) -> torch.Tensor:
    """``(frames, 3, 4)`` in float64: from each camera's coordinates to those of the first camera."""
    world_to_camera = np.tile(np.eye(4), (len(poses), 1, 1))
    world_to_camera[:, :3] = np.array([pose[MATRIX] for pose in poses], dtype=float).reshape(-1, 3, 4)
    return torch.from_numpy((world_to_camera[0] @ np.linalg.inv(world_to_camera))[:, :3])


def focal_lengths(pose: Pose, ratio: float) -> tuple[float, float]:
    """Relative to the sides of a picture whose width / height is ``ratio``: that of the pose, resized and cropped to it."""
    fx, fy, shape = pose[FX], pose[FY], pose[WIDTH] / pose[HEIGHT]
    return (fx * shape / ratio, fy) if shape > ratio else (fx, fy * ratio / shape)


def rays(poses: Sequence[Pose], height: int, width: int) -> torch.Tensor:
    """``(frames, 6, height, width)``: o x d and d of each pixel's centre; float32, on the CPU.

    The world is that of the first camera. A pose whose picture has another shape than ``width x height`` sees what is left
    of it when it is resized and cropped to that size.
    """
    cameras = to_world(poses)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    made = torch.empty(len(poses), 6, height, width)
    for of_frame, pose, camera in zip(made, poses, cameras, strict=True):
        fx, fy = focal_lengths(pose, width / height)
        direction = torch.ones(3, height, width)
        direction[0] = (x - pose[CX] * width) / (fx * width)
        direction[1] = ((y - pose[CY] * height) / (fy * height))[:, None]
        direction /= direction.norm(dim=0, keepdim=True)
        direction = torch.einsum("ij,jhw->ihw", camera[:, :3].float(), direction)
        origin = camera[:, 3].float()[:, None, None].expand_as(direction)
        of_frame[:3] = torch.cross(origin, direction, dim=0)
        of_frame[3:] = direction
    return made
