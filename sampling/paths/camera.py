"""A camera that pans, zooms and rolls: what it sees in each frame, as a part of one large picture.

A framing is a similarity: the place p of a frame, seen from its middle, is the place ``shift + R(roll) p / zoom`` of the picture, seen
from the middle of the first frame's. Such a camera sees a flat scene that it faces; poses of one in space (CameraCtrl) are fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...motion_models.adapters.camera import CX, CY, Poses
from ...motion_models.adapters.plucker import focal_lengths, to_world
from .keys import FARTHEST, Key, PathError, between, check_keys

ZOOMS = (0.25, 4.0)
MOST_ROLL = 3600.0  # degrees
CORNERS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))  # of a picture, in shares of its sides
NEAREST = 0.05  # of the depth: nearer than that, a camera is taken to go through what is there
NEIGHBOURHOOD = 0.1  # of a side


@dataclass(frozen=True)
class Framing:
    """How far the camera has gone, to the right and down, as shares of the picture; zoom; roll in degrees, clockwise."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    roll: float = 0.0

    def __post_init__(self):
        if not (abs(self.x) <= FARTHEST and abs(self.y) <= FARTHEST):
            raise PathError(
                f"The camera goes to {self.x:g}, {self.y:g}, but a path reaches {FARTHEST:g} pictures far. These are shares of the "
                "picture, not pixels."
            )
        if not ZOOMS[0] <= self.zoom <= ZOOMS[1]:
            raise PathError(
                f"The zoom of the camera is {self.zoom:.3g}, but can be from {ZOOMS[0]:g} to {ZOOMS[1]:g}: beyond, frames have next "
                "to nothing in common."
            )
        if not abs(self.roll) <= MOST_ROLL:
            raise PathError(f"The camera rolls to {self.roll:g} degrees, but {MOST_ROLL:g} is the most.")

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """With the logarithm of the zoom, which grows evenly where a camera comes nearer at an even speed."""
        return self.x, self.y, math.log(self.zoom), self.roll


@dataclass(frozen=True)
class MovingCamera:
    """What the camera sees, ``keys`` at ascending frames. ``noise``: how much of the coarse noise moves with it, 0..1."""

    keys: tuple[Key, ...]
    noise: float = 1.0

    def __post_init__(self):
        check_keys(self.keys)

    def at(self, frames: int) -> torch.Tensor:
        """``(frames, 4)``: x, y, the logarithm of the zoom, roll in degrees."""
        return between(self.keys, frames)


def from_moves(moves: Sequence[tuple[int, tuple[float, ...]]], ease: str, noise: float) -> MovingCamera:
    """Out of frames, each with x and y, and perhaps zoom and roll."""
    return MovingCamera(tuple(Key(frame, Framing(*numbers), ease) for frame, numbers in moves), noise)


def seen_places(framings: torch.Tensor, places: torch.Tensor, width: float, height: float) -> torch.Tensor:
    """Where in the large picture a camera of ``framings (frames, 4)`` sees ``places (n, 2)``: ``(frames, n, 2)``.

    Both as x and y, measured from the middles in units of which a frame is ``width`` by ``height``.
    """
    x, y, zoom, roll = framings.double().unbind(-1)
    cos, sin = (f(torch.deg2rad(roll)) / zoom.exp() for f in (torch.cos, torch.sin))
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (frames, 2, 2)
    shift = torch.stack([x * width, y * height], -1)
    return places.double() @ turn.transpose(-1, -2) + shift[:, None]


def outlines(framings: torch.Tensor, width: float, height: float) -> torch.Tensor:
    """The corners of what the camera sees in each frame, ``(frames, 4, 2)``, as shares of the first frame's picture."""
    size = torch.tensor([width, height], dtype=torch.float64)
    corners = (torch.tensor(CORNERS, dtype=torch.float64) - 0.5) * size
    return (seen_places(framings, corners, width, height) / size + 0.5).float()


def middles(framings: torch.Tensor, width: float, height: float) -> torch.Tensor:
    """Where the middle half of the first frame's picture is in each frame: its corners ``(frames, 4, 2)``, as shares."""
    size = torch.tensor([width, height], dtype=torch.float64)
    x, y, zoom, roll = framings.double().unbind(-1)
    from_middle = ((torch.tensor(CORNERS, dtype=torch.float64) - 0.5) / 2 - torch.stack([x, y], -1)[:, None]) * size
    # the inverse of a framing turns and scales the other way, behind the shift
    back = torch.stack([torch.zeros_like(x), torch.zeros_like(x), -zoom, -roll], -1)
    turned = [seen_places(one[None], places, 1, 1) for one, places in zip(back, from_middle, strict=True)]
    return (torch.cat(turned) / size + 0.5).float()


def from_poses(poses: Poses, depth: float, ratio: float, noise: float) -> MovingCamera:
    """What a camera in space makes of a scene that lies ``depth`` away on all sides of where it stands at first.

    So a turn of the camera is a pan or a roll without zoom. ``ratio``: width / height of the clip. Of each frame the similarity that
    fits the neighbourhood of its middle best (least squares in complex numbers).
    Raises PathError where the camera leaves that scene, or goes farther than a Framing can.
    """
    scale = np.array([ratio, 1.0])  # of shares, so that a turn is one
    middle = NEIGHBOURHOOD * (np.array(CORNERS) - 0.5) + 0.5
    lenses = np.array([[*focal_lengths(pose, ratio), pose[CX], pose[CY]] for pose in poses])
    here = (middle - 0.5) * scale @ (1, 1j)
    found = []
    for frame, (camera, lens) in enumerate(zip(to_world(poses).numpy(), lenses, strict=True)):
        place = camera[:, 3]
        if np.linalg.norm(place) > (1 - NEAREST) * depth:
            raise PathError(
                f"At frame {frame} the camera has gone through what is {depth:g} away from it at first. Raise depth, or let the poses "
                "move less."
            )
        rays = np.concatenate([(middle - lens[2:]) / lens[:2], np.ones((4, 1))], axis=1) @ camera[:, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        ahead = rays @ place
        x, y, z = (place + ((ahead**2 - place @ place + depth**2) ** 0.5 - ahead)[:, None] * rays).T
        aside = np.hypot(x, y)
        angles = np.stack([x, y], 1) * (np.arctan2(aside, z) / np.maximum(aside, 1e-12))[:, None]
        there = (angles * lenses[0, :2] + lenses[0, 2:] - 0.5) * scale @ (1, 1j)
        similar = (here.conj() @ (there - there.mean())) / (here.conj() @ here).real
        found.append((there.mean(), similar))
    shifts, similar = (np.array(one) for one in zip(*found, strict=True))
    shifts -= shifts[0]  # the first frame is where it all begins, also of a lens that looks aside
    similar = similar / similar[0]
    rolls = np.degrees(np.unwrap(np.angle(similar)))
    numbers = zip(shifts.real / ratio, shifts.imag, 1 / abs(similar), rolls, strict=True)
    keys = [Key(frame, _framing(frame, *map(float, one))) for frame, one in enumerate(numbers)]
    return MovingCamera(tuple(keys), noise)


def _framing(frame: int, *numbers: float) -> Framing:
    try:
        return Framing(*numbers)
    except PathError as error:
        raise PathError(f"At frame {frame}: {error} Raise depth, or let the poses move less.") from None
