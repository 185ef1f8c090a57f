"""The claims of AnimateDiff (arXiv 2307.04725) as numbers, on the toy world's weights, in a real ComfyUI.

Clips are sampled through API prompts as users queue them, saved as PNG, and measured (``toyworld.measure``). The seeds
here are used for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import measure, scenes
from .prompts import PERSONALISED, Clip, sampling_prompt
from .videos import DIRECTIONS

FIRST_SEED = 900_000


def sample(server, clips: list[Clip]) -> Iterator[np.ndarray]:
    """The frames ``(frames, height, width, 3)`` of each clip, in order."""
    waiting = [server.submit(sampling_prompt(clip)) for clip in clips]
    for prompt_id in waiting:
        files = server.outputs(server.wait(prompt_id))
        yield np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files])


@dataclass(frozen=True)
class Claim:
    """One row of the table. ``more`` says whether higher numbers are better."""

    claim: str
    measure: str
    value: float
    must: float | None = None
    target: float | None = None
    more: bool = True

    def reaches(self, limit: float | None) -> bool:
        return limit is None or (self.value >= limit if self.more else self.value <= limit)

    @property
    def verdict(self) -> str:
        if not self.reaches(self.must):
            return "MISSED"
        return "" if self.must is None else "target" if self.reaches(self.target) else "must"


def _clips(count: int, first: int, **changes) -> list[Clip]:
    """``count`` clips over all captions in turn, with seeds of their own."""
    captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(count)]
    return [Clip(caption, FIRST_SEED + first + i, **changes) for i, caption in enumerate(captions)]


def training_motion() -> float:
    """Mean displacement of the training videos, as ``measure`` sees it."""
    rng = np.random.default_rng(FIRST_SEED)
    tracks = [measure.follow(scenes.video(scenes.random_path(rng))) for _ in range(50)]
    return float(np.mean([np.linalg.norm(track.displacement) for track in tracks]))


def _tracks(frames: list[np.ndarray]) -> list[measure.Track]:
    return [track for track in map(measure.follow, frames) if track is not None]


def _content(clips: list[Clip], frames: list[np.ndarray]) -> float:
    return float(np.mean([measure.content_matches(f, c.caption) for c, f in zip(clips, frames, strict=True)]))


def base_claims(server, count: int) -> list[Claim]:
    """Coherence, content and motion of plain text to animation."""
    clips = _clips(count, 0)
    frames = list(sample(server, clips))
    tracks = _tracks(frames)
    stills = _clips(max(3, count // 4), 1000, motion=None)
    still_frames = list(sample(server, stills))
    jump, still_jump = (float(np.mean([t.jump for t in _tracks(f)])) for f in (frames, still_frames))
    content, still_content = _content(clips, frames), _content(stills, still_frames)
    motion = float(np.mean([np.linalg.norm(track.displacement) for track in tracks])) / training_motion()
    return [
        Claim(
            "without the module frames do not cohere", "centroid jump per frame, T2I / module", still_jump / jump, 2, 3
        ),
        Claim("content follows the text", "frames of the right shape and colour, %", 100 * content, 70, 85),
        Claim("", "points below the still model", 100 * (still_content - content), 10, 10, more=False),
        Claim("motion is real", "mean displacement / that of the training videos, %", 100 * motion, 30, 50),
    ]


def adapter_claims(server, count: int) -> list[Claim]:
    """What is left of the watermark when the adapter is taken out."""
    left = {}
    for scale in (1.0, 0.0):
        left[scale] = np.mean([measure.watermark(f) for f in sample(server, _clips(count, 2000, adapter=scale))])
    ratio = 100 * max(left[0.0], 0.0) / left[1.0]
    return [
        Claim("", "watermark with the adapter (training videos: 0.40)", float(left[1.0])),
        Claim(
            "the adapter absorbs the domain gap", "watermark left, adapter 1 -> 0, %", float(ratio), 30, 10, more=False
        ),
    ]


def personalised_claims(server, count: int) -> list[Claim]:
    """Whether the restyled checkpoint keeps its style under the same module."""

    def style(**changes) -> np.ndarray:
        return np.mean([measure.style(f) for f in sample(server, _clips(count, 3000, **changes))], axis=0)

    animated = style(checkpoint=PERSONALISED)
    stills = style(checkpoint=PERSONALISED, motion=None, frames=4)
    other = style(motion=None, frames=4)
    similarity = 1 - np.linalg.norm(animated - stills) / np.linalg.norm(other - stills)
    return [
        Claim("any personalised checkpoint", "similarity to its stills (0: the base's)", float(similarity), 0.8, 0.9),
    ]


def _angles(server, count: int, first: int, loras: tuple[str, ...], direction: float) -> np.ndarray:
    tracks = _tracks(list(sample(server, _clips(count, first, loras=loras))))
    return np.array([track.angle_to(direction) for track in tracks])


def lora_claims(server, count: int) -> list[Claim]:
    """Whether MotionLoRAs set the motion, add up, and need more than five clips."""
    angles = np.concatenate(
        [
            _angles(server, count, 4000 + 100 * i, (f"toyworld-{name}",), direction)
            for i, (name, direction) in enumerate(DIRECTIONS.items())
        ]
    )
    both = _angles(server, count, 5000, ("toyworld-right", "toyworld-up"), np.pi / 4)
    few = _angles(server, count, 4000, ("toyworld-right-5-clips",), DIRECTIONS["right"])
    zoom = _tracks(list(sample(server, _clips(count, 6000, loras=("toyworld-zoom-in",)))))
    within = 100 * float((angles < 45).mean())
    return [
        Claim("MotionLoRA sets the motion", "clips within 45 degrees, %", within, 75, 90),
        Claim("", "mean error of direction, degrees", float(angles.mean()), 35, 20, more=False),
        Claim(
            "two LoRAs add up",
            "right + up: mean error to the diagonal, degrees",
            float(both.mean()),
            35,
            20,
            more=False,
        ),
        Claim("zoom-in", "mean growth of the shape over a clip", float(np.mean([t.growth for t in zoom])), 1.2, 1.5),
        Claim("5 clips are too few", "the same with 5 clips: mean error of direction, degrees", float(few.mean())),
    ]


def table(claims: list[Claim]) -> str:
    """Markdown."""
    lines = ["| claim | measure | must | target | reached | |", "|---|---|---|---|---|---|"]
    for c in claims:
        limits = ["" if limit is None else f"{'>=' if c.more else '<='} {limit:g}" for limit in (c.must, c.target)]
        lines.append(f"| {c.claim} | {c.measure} | {limits[0]} | {limits[1]} | {c.value:.2f} | {c.verdict} |")
    return "\n".join(lines)


def run(server, quick: bool, out: Path | None = None) -> list[Claim]:
    """All claims, fewer clips if ``quick``; printed as they come, written to ``out`` as JSON."""
    parts = [(base_claims, 24, 6), (adapter_claims, 8, 3), (personalised_claims, 6, 3), (lora_claims, 8, 4)]
    claims = []
    for part, count, quick_count in parts:
        claims += part(server, quick_count if quick else count)
    if out is not None:
        out.write_text(json.dumps([vars(claim) for claim in claims], indent=1))
    return claims
