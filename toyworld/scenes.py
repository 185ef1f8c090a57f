"""Pictures and videos of the toy world: one filled shape on plain ground, drawn by code.

All of it is a function of the ``numpy`` generator that is passed in. Pictures are ``(height, width, 3)`` float32 in
0..1, as ComfyUI's IMAGE; lengths are in pixels, x to the right and y down.
"""

from dataclasses import dataclass, replace

import numpy as np

SIZE = 64
FRAMES = 16
SHAPES = ("circle", "square", "triangle")
COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.10, 0.65, 0.25),
    "blue": (0.15, 0.30, 0.85),
    "yellow": (0.95, 0.80, 0.10),
}
CAPTIONS = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)
GROUND = np.array((0.86, 0.85, 0.82), np.float32)
DARK_GROUND = np.array((0.10, 0.11, 0.16), np.float32)
RADIUS = (9.0, 12.0)
TRAVEL = (16.0, 30.0)  # pixels over a clip
CROSSING = (34.0, 44.0)  # nearly from edge to edge, whatever the size of the shape
BEND = 0.8  # of a way: how far the place that it bends towards lies aside, as a part of its length
MARGIN = 1.0
OUTLINE = 3.5
# Gap between videos and stills: what a domain adapter has to absorb.
WATERMARK_ALPHA = 0.25
CONTRAST = 0.9

_y, _x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


@dataclass(frozen=True)
class Scene:
    shape: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape}"


def signed_distance(scene: Scene) -> np.ndarray:
    """Signed distance of every pixel to the edge of the shape, negative inside."""
    x, y = _x - scene.x, _y - scene.y
    if scene.shape == "circle":
        return np.hypot(x, y) - scene.radius
    if scene.shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.9 * scene.radius
    # upright equilateral triangle whose centre of mass is (x, y)
    sides = [(0.0, 1.0), (np.sin(np.pi / 3), -0.5), (-np.sin(np.pi / 3), -0.5)]
    return np.max([nx * x + ny * y for nx, ny in sides], axis=0) - 0.62 * scene.radius


def _coverage(d: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - d, 0.0, 1.0)[..., None].astype(np.float32)


def draw_still(scene: Scene) -> np.ndarray:
    """The base domain: a filled shape on light ground."""
    inside = _coverage(signed_distance(scene))
    return GROUND * (1 - inside) + np.array(COLOURS[scene.colour], np.float32) * inside


def draw_personalised(scene: Scene) -> np.ndarray:
    """The second still style: the outline of a shape on dark ground."""
    d = signed_distance(scene)
    line = _coverage(d) * (1 - _coverage(d + OUTLINE))
    return DARK_GROUND * (1 - line) + np.array(COLOURS[scene.colour], np.float32) * line


def _watermark() -> np.ndarray:
    """Coverage ``(height, width, 1)`` of the watermark: two bars at the bottom and a ring in a corner."""
    bars = ((_y > 44) & (_y < 49)) | ((_y > 54) & (_y < 59))
    ring = abs(np.hypot(_x - 52, _y - 12) - 6) < 2
    return (bars | ring)[..., None].astype(np.float32)


WATERMARK = _watermark()


def add_domain_gap(
    picture: np.ndarray, watermark_alpha: float = WATERMARK_ALPHA, contrast: float = CONTRAST
) -> np.ndarray:
    """What separates videos from stills: weaker contrast and a translucent dark watermark."""
    flat = 0.5 + (picture - 0.5) * contrast
    return (flat * (1 - watermark_alpha * WATERMARK)).astype(np.float32)


def draw_video_frame(scene: Scene) -> np.ndarray:
    return add_domain_gap(draw_still(scene))


def _range(radius: float) -> tuple[float, float]:
    return radius + MARGIN, SIZE - radius - MARGIN


def random_scene(rng: np.random.Generator, caption: str | None = None) -> Scene:
    """A shape somewhere inside the frame."""
    _, colour, shape = (caption or rng.choice(CAPTIONS)).split()
    radius = rng.uniform(*RADIUS)
    x, y = rng.uniform(*_range(radius), size=2)
    return Scene(shape, colour, x, y, radius)


def random_path(
    rng: np.random.Generator,
    direction: float | None = None,
    caption: str | None = None,
    travel: tuple[float, float] = TRAVEL,
) -> list[Scene]:
    """A shape that moves straight at constant speed and stays inside the frame.

    ``direction`` in radians, 0 to the right, pi/2 up; random without it. ``travel``: how far, from and to, if there is room.
    """
    first = random_scene(rng, caption)
    angle = rng.uniform(0, 2 * np.pi) if direction is None else direction
    low, high = _range(first.radius)
    step = np.array((np.cos(angle), -np.sin(angle)))
    distance = min(rng.uniform(*travel), *((high - low) / max(abs(s), 1e-9) for s in step))
    move = step * distance
    # sorted: where there is no room to choose from, rounding may put the last place before the first
    start = [rng.uniform(*sorted((low - min(m, 0), high - max(m, 0)))) for m in move]
    ends = np.linspace(0, 1, FRAMES)[:, None] * move + start
    return [replace(first, x=x, y=y) for x, y in ends]


def random_way(
    rng: np.random.Generator, caption: str | None = None, travel: tuple[float, float] = (TRAVEL[0], CROSSING[1])
) -> list[Scene]:
    """A shape on a straight or curved way through the frame: a parabola (Bézier curve) from a place to another one, ``travel`` apart."""
    first = random_scene(rng, caption)
    low, high = _range(first.radius)
    while True:
        start, end = rng.uniform(low, high, size=(2, 2))
        move, bend = end - start, rng.uniform(-BEND, BEND)
        aside = (start + end) / 2 + bend * np.array((-move[1], move[0]))
        if travel[0] <= np.hypot(*move) <= travel[1] and ((low <= aside) & (aside <= high)).all():
            break
    t = np.linspace(0, 1, FRAMES)[:, None]
    places = (1 - t) ** 2 * start + 2 * t * (1 - t) * aside + t**2 * end
    return [replace(first, x=x, y=y) for x, y in places]


def random_zoom(rng: np.random.Generator, caption: str | None = None) -> list[Scene]:
    """A zoom towards the centre of the frame: a shape near it grows by half or more."""
    first = replace(random_scene(rng, caption), radius=rng.uniform(7.0, 9.0))
    offset = rng.uniform(-6, 6, size=2)
    return [
        replace(first, x=SIZE / 2 + offset[0] * z, y=SIZE / 2 + offset[1] * z, radius=first.radius * z)
        for z in np.geomspace(1.0, rng.uniform(1.8, 2.2), FRAMES)
    ]


def video(path: list[Scene]) -> np.ndarray:
    """``(frames, height, width, 3)`` in the look of the training videos."""
    return np.stack([draw_video_frame(scene) for scene in path])
