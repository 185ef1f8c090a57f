"""The larger world, drawn by code: a shape on patterned ground, 96 pixels, seen by a camera.

The shape moves straight and turns, or the camera pans or zooms. As in ``toyworld.scenes`` all of it is a function of the ``numpy``
generator that is passed in; pictures are ``(height, width, 3)`` float32 in 0..1, lengths in pixels, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SIZE = 96
FRAMES = 16
SHAPES = ("star", "square", "moon")
COLOURS = {
    "red": (0.86, 0.17, 0.15),
    "blue": (0.16, 0.32, 0.84),
    "yellow": (0.98, 0.80, 0.12),
    "purple": (0.58, 0.20, 0.72),
}
# Of each ground its colour and that of its pattern.
GROUNDS = {
    "grass": ((0.62, 0.78, 0.47), (0.76, 0.88, 0.58)),
    "sand": ((0.94, 0.86, 0.69), (0.86, 0.75, 0.56)),
    "water": ((0.55, 0.78, 0.88), (0.72, 0.89, 0.94)),
    "tiles": ((0.93, 0.91, 0.88), (0.78, 0.79, 0.84)),
}
CAPTIONS = tuple(f"a {colour} {shape} on {ground}" for ground in GROUNDS for colour in COLOURS for shape in SHAPES)
INK = (0.16, 0.15, 0.20)
OUTLINE = 1.8
SHADOW, SHADOW_AT = 0.30, (3.0, 4.0)
RADIUS = (17.0, 22.0)
TRAVEL = (26.0, 46.0)  # of the shape or of the camera over a clip
TURN = (0.6, 2.4)  # radians over a clip
ZOOM = (1.6, 1.9)  # over a clip
MARGIN = 2.0

_y, _x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5 - SIZE / 2


@dataclass(frozen=True)
class View:
    """What a camera at ``camera`` sees at a ``zoom``: the place of the shape and ``camera`` are on the ground, from the middle of it."""

    shape: str
    colour: str
    ground: str
    place: tuple[float, float]
    radius: float
    angle: float
    camera: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} on {self.ground}"


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 around 0, over ``width``."""
    return np.clip(value / width + 0.5, 0.0, 1.0)


def _pattern(ground: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How much there is of the pattern at a place of the ground, 0..1."""
    wave = 2 * np.pi
    if ground == "grass":  # round tufts
        return _step(abs(np.sin(wave * u / 40) * np.sin(wave * v / 40)) - 0.5, 0.4)
    if ground == "sand":  # dunes
        return _step(np.sin(wave * (v + 0.35 * u + 4 * np.sin(wave * u / 64)) / 20), 1.2)
    if ground == "water":  # waves
        return _step(np.sin(wave * (v + 3 * np.sin(wave * u / 24)) / 16) - 0.2, 0.9)
    return _step(np.sin(wave * u / 48) * np.sin(wave * v / 48), 0.15)


def _signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the edge of the shape around 0, negative inside."""
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.8 * radius
    if shape == "moon":
        outer = np.hypot(x, y) - radius
        return np.maximum(outer, 0.8 * radius - np.hypot(x - 0.5 * radius, y))
    # star: of five spikes the one that is nearest, whose side is a line
    angle = np.arctan2(x, -y)
    apart = 2 * np.pi / 5
    spike = abs((angle + apart / 2) % apart - apart / 2)
    r = np.hypot(x, y)
    along, aside = r * np.cos(spike), r * np.sin(spike)
    inner = 0.50 * radius
    valley = np.array((inner * np.cos(apart / 2), inner * np.sin(apart / 2)))
    side = valley - np.array((radius, 0.0))
    normal = np.array((side[1], -side[0])) / np.hypot(*side)
    return (along - radius) * normal[0] + aside * normal[1]


def _coverage(distance: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - distance, 0.0, 1.0)[..., None].astype(np.float32)


def _mix(below: np.ndarray, above, how_much: np.ndarray) -> np.ndarray:
    return below * (1 - how_much) + np.asarray(above, np.float32) * how_much


def draw(view: View) -> np.ndarray:
    """The picture of a view, by day."""
    return _draw(view, _ground(view, view.ground), COLOURS[view.colour], INK, SHADOW)


def draw_shore(view: View) -> np.ndarray:
    """The style of the restyled checkpoint: below the middle there is water, or sand if the rest is water."""
    other = "sand" if view.ground == "water" else "water"
    shore = _y / view.zoom - 4 * np.sin(2 * np.pi * (_x / view.zoom + view.camera[0]) / 48)
    ground = _mix(_ground(view, view.ground), _ground(view, other), _step(shore, 3.0)[..., None])
    return _draw(view, ground, COLOURS[view.colour], INK, SHADOW)


def draw_night(view: View) -> np.ndarray:
    """Dark ground, and a shape whose outline shines: the autoencoder knows it, no checkpoint draws it yet."""
    ground = 0.30 * _ground(view, view.ground) * np.float32((0.75, 0.85, 1.25))
    bright = 0.45 + 0.55 * np.array(COLOURS[view.colour])
    return _draw(view, ground, 0.45 * np.array(COLOURS[view.colour]), bright, 0.5)


def _ground(view: View, ground: str) -> np.ndarray:
    u, v = _x / view.zoom + view.camera[0], _y / view.zoom + view.camera[1]
    base, pattern = GROUNDS[ground]
    how_much = _pattern(ground, u, v)[..., None].astype(np.float32)
    return _mix(np.broadcast_to(np.float32(base), (SIZE, SIZE, 3)), pattern, how_much)


def _draw(view: View, picture: np.ndarray, fill, ink, shadow: float) -> np.ndarray:
    """The shape of a view on ``picture``, which is the ground."""
    radius = view.radius * view.zoom

    def distance(dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
        x = _x - (view.place[0] - view.camera[0]) * view.zoom - dx
        y = _y - (view.place[1] - view.camera[1]) * view.zoom - dy
        c, s = np.cos(view.angle), np.sin(view.angle)
        return _signed_distance(view.shape, c * x + s * y, c * y - s * x, radius)

    soft = np.clip(0.5 - distance(*SHADOW_AT) / 4, 0.0, 1.0)[..., None].astype(np.float32)
    picture = picture * (1 - shadow * soft)
    d = distance()
    picture = _mix(picture, ink, _coverage(d))
    return _mix(picture, fill, _coverage(d + OUTLINE)).astype(np.float32)


def random_view(rng: np.random.Generator, caption: str | None = None) -> View:
    """A shape somewhere inside the frame, on ground that begins anywhere."""
    _, colour, shape, _, ground = (caption or rng.choice(CAPTIONS)).split()
    radius = rng.uniform(*RADIUS)
    reach = SIZE / 2 - radius - MARGIN
    camera = rng.uniform(-100, 100, size=2)
    place = camera + rng.uniform(-reach, reach, size=2)
    return View(shape, colour, ground, tuple(place), radius, rng.uniform(0, 2 * np.pi), tuple(camera))


def _line(rng: np.random.Generator, direction: float | None) -> np.ndarray:
    """A straight way at constant speed around 0, ``(frames, 2)``; ``direction`` in radians, 0 to the right, pi/2 up."""
    angle = rng.uniform(0, 2 * np.pi) if direction is None else direction
    move = rng.uniform(*TRAVEL) * np.array((np.cos(angle), -np.sin(angle)))
    return np.linspace(-0.5, 0.5, FRAMES)[:, None] * move


def moving(rng: np.random.Generator, caption: str | None = None, direction: float | None = None) -> list[View]:
    """The shape goes straight on and turns; the camera stands still."""
    first = random_view(rng, caption)
    way = _line(rng, direction)
    reach = SIZE / 2 - first.radius - MARGIN - abs(way[0])
    middle = first.camera + rng.uniform(-1, 1, size=2) * np.maximum(reach, 0)
    turn = rng.uniform(*TURN) * rng.choice((-1, 0, 1))
    angles = first.angle + np.linspace(0, turn, FRAMES)
    return [replace(first, place=tuple(middle + w), angle=a) for w, a in zip(way, angles, strict=True)]


def turning(rng: np.random.Generator, caption: str | None = None) -> list[View]:
    """The shape turns where it is."""
    first = random_view(rng, caption)
    turn = 1.5 * rng.uniform(*TURN) * rng.choice((-1, 1))
    return [replace(first, angle=a) for a in first.angle + np.linspace(0, turn, FRAMES)]


def panning(rng: np.random.Generator, caption: str | None = None, direction: float | None = None) -> list[View]:
    """The camera moves ``direction``-wards; the shape stays where it is on the ground, and in the picture."""
    first = random_view(rng, caption)
    way = _line(rng, direction)
    reach = SIZE / 2 - first.radius - MARGIN - abs(way[0])
    place = first.camera + rng.uniform(-1, 1, size=2) * np.maximum(reach, 0)
    return [replace(first, place=tuple(place), camera=tuple(first.camera + w)) for w in way]


def zooming(rng: np.random.Generator, caption: str | None = None, inwards: bool | None = None) -> list[View]:
    """The camera zooms towards the middle of the frame, near which the shape is, or away from it."""
    first = random_view(rng, caption)
    change = rng.uniform(*ZOOM)
    zooms = np.geomspace(change**-0.5, change**0.5, FRAMES)
    if not (rng.random() < 0.5 if inwards is None else inwards):
        zooms = zooms[::-1]
    place = first.camera + rng.uniform(-10, 10, size=2)
    return [replace(first, place=tuple(place), zoom=zoom) for zoom in zooms]


def any_motion(rng: np.random.Generator, caption: str | None = None) -> list[View]:
    """What the motion module learns from."""
    kind = rng.choice((moving, turning, panning, zooming), p=(0.4, 0.1, 0.3, 0.2))
    return kind(rng, caption)


def video(views: list[View]) -> np.ndarray:
    """``(frames, height, width, 3)``."""
    return np.stack([draw(view) for view in views])


def any_picture(rng: np.random.Generator) -> np.ndarray:
    """Of every look that the autoencoder has to know."""
    view = replace(random_view(rng), zoom=rng.uniform(0.7, 1.4))
    return draw_night(view) if rng.random() < 0.25 else draw(view)


def still(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A picture by day and its caption, at any zoom that videos have."""
    view = _zoomed(rng)
    return draw(view), view.caption


def shore(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """The same in the style of the restyled checkpoint."""
    view = _zoomed(rng)
    return draw_shore(view), view.caption


def _zoomed(rng: np.random.Generator) -> View:
    return replace(random_view(rng), zoom=np.exp(rng.uniform(-1, 1) * 0.5 * np.log(ZOOM[1])))
