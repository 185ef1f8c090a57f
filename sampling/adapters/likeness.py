"""How much frames shall be like PIA's picture: what users say, and the curves that PIA's authors publish for use.

PIA (Zhang et al., arXiv 2312.13964), section 4.1: how alike frames are to the picture says how much they move.
"""

import logging
from dataclasses import dataclass

from ..strength.multival import Multival, combined, of_numbers

LOOP = "Loop"
ANIMATION = {"Small": (1, 0.9, 0.85, 0.85, 0.85, 0.8), "Medium": (1, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75)}
# Likeness by the distance from the frame that the picture is of; the last value serves all that are further away.
PRESETS: dict[str, tuple[float, ...]] = {
    f"{kind} ({amount} Motion)": tuple(map(float, values))
    for kind, amounts in {
        "Animation": {**ANIMATION, "Large": (1, 0.8, *[0.7] * 8, 0.6, 0.5, 0.5)},
        LOOP: {**ANIMATION, "Large": (1, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5)},
        "Style Transfer": {
            "Small": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
            "Medium": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
            "Large": (0.5, 0.2),
        },
    }.items()
    for amount, values in amounts.items()
}


def likeness(preset: str, index: int, frames: int) -> list[float]:
    """How much each of ``frames`` frames shall be like the picture, which is frame ``index`` (negative: from the end)."""
    values = PRESETS[preset]
    if preset.startswith(LOOP):
        way = [values[min(i, len(values) - 1)] for i in range(max(frames // 2, 1))]
        values = [*way, *way[-1:] * (frames % 2), *reversed(way)]
    index = min(max(index + frames if index < 0 else index, 0), frames - 1)
    return [values[min(abs(frame - index), len(values) - 1)] for frame in range(frames)]


@dataclass(frozen=True, eq=False)
class PiaInput:
    """PIA_INPUT: how much frames shall be like the picture: ``strength``, times the ``preset`` around frame ``index``."""

    strength: Multival | None = None
    preset: str | None = None
    index: int = 0
    printed: bool = False

    def over(self, frames: int) -> Multival:
        """For a clip of ``frames`` frames."""
        if self.preset is None:
            return combined(self.strength, None)
        values = likeness(self.preset, self.index, frames)
        if self.printed:
            logging.info("[AnimateDiff] PIA preset '%s': %s", self.preset, ", ".join(f"{value:g}" for value in values))
        return combined(of_numbers(values), self.strength)
