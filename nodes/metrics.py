"""Measuring animations."""

import logging
from collections.abc import Mapping

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..host.progress import note
from ..host.schema import schema
from ..metrics.animation import Measure, measure, report
from ..metrics.plot import plot
from ..sampling.windows.schedules import STANDARD_STATIC, WindowOptions, windows
from .base import Node


class AnimateDiffMetrics(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffMetrics",
            display_name="Animation Metrics",
            category="AnimateDiff/metrics",
            description="Measures how smooth, how lively and how free of flicker and window seams a clip is.",
            search_aliases=["quality", "flicker", "optical flow", "motion smoothness", "CLIP score", "VBench"],
            inputs=[
                io.Image.Input("images", tooltip="The frames of one clip."),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="A CLIP vision model, for the three CLIP measures."
                ),
                io.Image.Input(
                    "reference_images",
                    optional=True,
                    tooltip="For domain similarity: stills that the same checkpoint makes without a motion model.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For text alignment: the text half of the CLIP whose vision half is at clip_vision, with a "
                    "text projection. SDXL's with ViT-bigG is one; the CLIP of SD1.5 checkpoints has none.",
                ),
                io.String.Input(
                    "text", default="", multiline=True, optional=True, tooltip="The prompt, for text alignment."
                ),
                io.Int.Input(
                    "context_length",
                    default=0,
                    min=0,
                    max=100_000,
                    optional=True,
                    tooltip="Frames in each window the clip was sampled with (static standard), for the seam ratio. "
                    "0: sampled without windows.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=4,
                    min=0,
                    max=100_000,
                    optional=True,
                    tooltip="Frames that neighbouring windows share.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "motion_smoothness", tooltip="CLIP: 100 x mean cosine of adjacent frames (AnimateDiff, Table 1)."
                ),
                io.Float.Output(
                    "domain_similarity", tooltip="CLIP: 100 x mean cosine with the reference images (same table)."
                ),
                io.Float.Output("text_alignment", tooltip="CLIP: 100 x mean cosine with the text (same table)."),
                io.Float.Output(
                    "flicker_score", tooltip="VBench's temporal flickering in %: 100 = still. Motion lowers it too."
                ),
                io.Float.Output(
                    "dynamic_degree", tooltip="Pixels per frame that the liveliest 5 % of the picture move."
                ),
                io.Float.Output(
                    "warp_error", tooltip="What differs between frames once motion is taken out, in levels of 255."
                ),
                io.Float.Output(
                    "seam_ratio", tooltip="Difference of frames where the windows change / elsewhere. 1 = no seam."
                ),
                io.String.Output("report", tooltip="All measures as text; says why where one is not available."),
                io.Image.Output("plot", tooltip="All curves over the frames."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def run(
        cls,
        images: torch.Tensor,
        clip_vision=None,
        reference_images: torch.Tensor | None = None,
        clip=None,
        text: str = "",
        context_length: int = 0,
        context_overlap: int = 4,
    ) -> io.NodeOutput:
        static = WindowOptions(STANDARD_STATIC, context_length, context_overlap)
        animation = measure(
            images,
            clip_vision=clip_vision,
            stills=reference_images,
            clip=clip,
            text=text,
            windows=windows(len(images), static) if context_length else (),
        )
        used = used_outputs(cls.hidden.prompt, cls.hidden.unique_id)
        told = [without(measure) for i, measure in enumerate(animation.measures) if measure.not_available and i in used]
        note("\n".join(told))
        for line in told:
            logging.warning("[AnimateDiff] Animation Metrics: %s", line)
        ui = {"text": told} if told else None  # in the history, for those who queue prompts by themselves
        return io.NodeOutput(*map(number, animation.measures), report(animation), plot(animation), ui=ui)


def used_outputs(prompt: Mapping[str, dict] | None, node_id: str | None) -> set[int]:
    """The places of a node's outputs to which something is connected."""
    values = [value for node in (prompt or {}).values() for value in node["inputs"].values()]
    return {value[1] for value in values if isinstance(value, list) and len(value) == 2 and value[0] == node_id}


def without(measure: Measure) -> str:
    why = measure.not_available.rstrip(".")
    return f"{measure.name} is not available: {why}. What is connected to it does not run."


def number(measure: Measure) -> float | ExecutionBlocker:
    """The number; where there is none, what is connected to it does not run, and says why."""
    if measure.not_available:
        return ExecutionBlocker(without(measure))
    return measure.value


NODES = [AnimateDiffMetrics]
