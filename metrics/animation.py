"""All measures of one animation, and their report as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import comfy.utils
import torch

from ..host.clip import NoEmbedding, image_embeddings, text_embedding
from . import clip as clip_measures
from . import flow as flow_measures
from . import frames as frame_measures

COSINE = "100 x cosine"


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure of a clip: its number with, where it has one, its curve; or the reason why there is none."""

    name: str
    unit: str
    value: float | None = None
    curve: torch.Tensor | None = None  # (frames,) or, between frames, (frames - 1,)
    curve_name: str = ""  # where the curve is not the number's own
    curve_unit: str = ""
    not_available: str = ""


@dataclass(frozen=True)
class Measurements:
    """The measures of a clip."""

    frames: int
    height: int
    width: int
    seams: tuple[int, ...]  # frames after which the windows change
    motion_smoothness: Measure
    domain_similarity: Measure
    text_alignment: Measure
    flicker: Measure
    dynamic_degree: Measure
    warp_error: Measure
    seam_ratio: Measure

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (
            self.motion_smoothness,
            self.domain_similarity,
            self.text_alignment,
            self.flicker,
            self.dynamic_degree,
            self.warp_error,
            self.seam_ratio,
        )


def measure(
    images: torch.Tensor,
    *,
    clip_vision=None,
    stills: torch.Tensor | None = None,
    clip=None,
    text: str = "",
    windows: Sequence[Sequence[int]] = (),
) -> Measurements:
    """Measure a clip ``(frames, h, w, channels)`` in 0..1.

    ``clip_vision`` and ``clip`` are the host's models; ``stills (n, h, w, channels)`` pictures that the same
    checkpoint makes without motion; ``windows`` the frames of each context window it was sampled with.
    What cannot be measured says why in its ``Measure.not_available``. Raises ValueError for pictures that are none.
    """
    frames = pictures(images, "images")
    if len(frames) < 2:
        raise ValueError(
            "Metrics of an animation compare frames with each other, and images holds only one. "
            "Connect the frames of a clip as one batch."
        )
    seams = tuple(frame_measures.seams(len(frames), windows))
    differences = frame_measures.frame_differences(frames)
    smoothness, domain, alignment = clip_curves(frames, clip_vision, stills, clip, text)
    dynamic, warp = motion(frames)
    return Measurements(
        frames=len(frames),
        height=frames.shape[1],
        width=frames.shape[2],
        seams=seams,
        motion_smoothness=mean_of("motion smoothness", COSINE, smoothness),
        domain_similarity=mean_of("domain similarity", COSINE, domain),
        text_alignment=mean_of("text alignment", COSINE, alignment),
        flicker=Measure(
            "flicker score",
            "% (100 = still)",
            frame_measures.temporal_flickering(differences),
            differences,
            "frame difference",
            "levels of 255",
        ),
        dynamic_degree=mean_of("dynamic degree", "pixels/frame", dynamic),
        warp_error=mean_of("warp error", "levels of 255", warp),
        seam_ratio=seam_measure(differences, seams, bool(windows)),
    )


def pictures(images: torch.Tensor, name: str) -> torch.Tensor:
    """Pictures as ``(n, h, w, 3)``, without alpha. Raises ValueError if they are no pictures, or broken ones."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name} must be pictures of the shape (number, height, width, 3), with alpha 4, or 1 if grey, "
            f"but it has the shape {tuple(images.shape)}."
        )
    if not images.isfinite().all():
        raise ValueError(
            f"{name} holds NaN or infinity, which show as black pictures. If they come from VAE Decode, start ComfyUI "
            "with --fp32-vae or use another VAE."
        )
    return images[..., :3].expand(-1, -1, -1, 3).float().clamp(0, 1)


def mean_of(name: str, unit: str, curve: torch.Tensor | str) -> Measure:
    """The measure whose number is the mean of a curve; or not available, for the reason given instead of one."""
    if isinstance(curve, str):
        return Measure(name, unit, not_available=curve)
    return Measure(name, unit, float(curve.mean()), curve)


def clip_curves(frames, clip_vision, stills, clip, text: str) -> list[torch.Tensor | str]:
    """Motion smoothness, domain similarity and text alignment: a curve each, or why there is none."""
    if clip_vision is None:
        return ["connect clip_vision"] * 3
    try:
        embeddings = image_embeddings(clip_vision, frames)
    except NoEmbedding as error:
        return [str(error)] * 3
    smoothness = clip_measures.motion_smoothness(embeddings)
    domain = "connect reference_images: stills that the same checkpoint makes without motion"
    if stills is not None:
        domain = clip_measures.domain_similarity(
            embeddings, image_embeddings(clip_vision, pictures(stills, "reference_images"))
        )
    if clip is None or not text.strip():
        return [smoothness, domain, "connect clip and enter the text"]
    try:
        return [smoothness, domain, clip_measures.text_alignment(embeddings, text_embedding(clip, text))]
    except ValueError as error:
        return [smoothness, domain, str(error)]


def motion(frames: torch.Tensor) -> list[torch.Tensor | str]:
    """Dynamic degree and warp error, a curve each or why there is none. Shows progress, stops when interrupted."""
    progress = comfy.utils.ProgressBar(len(frames) - 1)
    found = []
    for first, second in pairwise(frames):
        try:
            flow = flow_measures.optical_flow(first, second)
        except flow_measures.NoOpenCV as error:
            return [str(error)] * 2
        found.append((flow_measures.dynamic_degree(flow), flow_measures.warp_error(first, second, flow)))
        progress.update(1)
    return [torch.tensor(curve) for curve in zip(*found, strict=True)]


def seam_measure(differences: torch.Tensor, seams: tuple[int, ...], in_windows: bool) -> Measure:
    name, unit = "seam ratio", "(1 = no seam)"
    if not in_windows:
        return Measure(name, unit, not_available="enter context_length and context_overlap of the windows used")
    try:
        return Measure(name, unit, frame_measures.seam_ratio(differences, list(seams)))
    except ValueError as error:
        return Measure(name, unit, not_available=str(error))


def report(animation: Measurements) -> str:
    """The measures as lines of text."""
    lines = [f"{animation.frames} frames of {animation.width} x {animation.height} pixels"]
    for measure in animation.measures:
        if measure.not_available:
            lines.append(f"{measure.name}: not available: {measure.not_available}")
            continue
        line = f"{measure.name}: {measure.value:.2f} {measure.unit}"
        if measure.curve is not None:
            low, high = float(measure.curve.min()), float(measure.curve.max())
            line += f"; {measure.curve_name or 'from'} {low:.2f} to {high:.2f} {measure.curve_unit}".rstrip()
        lines.append(line)
    if animation.seams:
        lines.append("seams after frames " + ", ".join(map(str, animation.seams)) + " (the first frame is 0)")
    lines.append("A still picture has the best smoothness, flicker and warp error: read them with the dynamic degree.")
    return "\n".join(lines)
