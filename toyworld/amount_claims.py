"""Motion Amount on the toy world: whether what moves grows with its number, and content stays; beside it a scale_multival alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import spearmanr

from . import measure, scenes
from .claim import Claim
from .prompts import Clip

FIRST_SEED = 975_000  # these are used for nothing else
SETTINGS = (0.0, 1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3, 2.0)


def dynamic_degree(flow, frames: np.ndarray) -> float:
    """As *Animation Metrics* has it, in pixels per frame; ``flow`` is the pack's module."""
    pairs = pairwise(torch.from_numpy(frames))
    return float(np.mean([flow.dynamic_degree(flow.optical_flow(first, second)) for first, second in pairs]))


def grows(values: Sequence[float]) -> float:
    """Spearman's rank correlation with the settings."""
    return float(spearmanr(SETTINGS[: len(values)], values).statistic)


def amount_claims(sample, count: int) -> list[Claim]:
    captions = [scenes.CAPTIONS[(5 * i) % len(scenes.CAPTIONS)] for i in range(count)]
    plain = [Clip(caption, FIRST_SEED + i) for i, caption in enumerate(captions)]
    flow = sample.bench().pack.submodule("metrics.flow")

    def measured(clips: list[Clip]) -> tuple[float, float]:
        """Dynamic degree; frames of the right shape and colour, %."""
        frames = sample(clips)
        content = [measure.content_matches(f, c.caption) for f, c in zip(frames, clips, strict=True)]
        return float(np.mean([dynamic_degree(flow, f) for f in frames])), 100 * float(np.mean(content))

    def way(name: str, change: Callable[[Clip, float], Clip]) -> tuple[list[Claim], float, float]:
        """The rows of each setting, how far motion grows with it, and the most points of content that one loses."""
        found = [measured([change(clip, setting) for clip in plain]) for setting in SETTINGS]
        rows = []
        for setting, (dynamic, content) in zip(SETTINGS, found, strict=True):
            rows.append(Claim("", f"{name} {setting:.2f}: dynamic degree, pixels per frame", dynamic))
            rows.append(Claim("", f"{name} {setting:.2f}: frames of the right shape and colour, %", content))
        contents = [content for _, content in found]
        return rows, grows([dynamic for dynamic, _ in found]), contents[SETTINGS.index(1.0)] - min(contents)

    by_amount, growth, lost = way("amount", lambda clip, setting: replace(clip, amount=setting))
    by_scale, scale_growth, scale_lost = way("scale_multival", lambda clip, setting: replace(clip, scale=setting))
    return [
        Claim("motion grows with Motion Amount", "Spearman of amount and dynamic degree", growth, 0.9, 1),
        Claim("", "the same of scale_multival", scale_growth),
        Claim("", "amount: most points lost of frames of the right shape and colour", lost, 8, 3, more=False),
        Claim("", "the same of scale_multival", scale_lost, more=False),
        *by_amount,
        *by_scale,
    ]
