"""Merging motion models and MotionLoRAs, and taking a MotionLoRA out of the difference of two motion models."""

from functools import partial

from comfy_api.latest import io, ui

from ..lora.apply import apply_motion_loras
from ..lora.making import extract, merge
from ..lora.motion_lora import AppliedMotionLora, MotionLoras
from ..motion_models.merging import merged, with_difference, with_patches_merged
from ..scheduling.blocks import block_weights
from . import sockets
from .base import EmptyInput, node
from .values import above, at_most

MOST_RANK = 10_240  # no layer of a published motion model is wider
_node = partial(node, category="AnimateDiff/merging", aliases=("merge", "combine models"))


def _merge_motion_models(motion_model_1, motion_model_2, weight: float, blocks: str = ""):
    return merged(motion_model_1, motion_model_2, block_weights("blocks", blocks, weight))


def _merge_into(motion_model, motion_lora: MotionLoras):
    merge.check_constant(motion_lora)
    patched, _ = apply_motion_loras(motion_model, motion_lora)
    return with_patches_merged(patched)


def _extract(motion_model, goal, rank: int, layers: str, clamp_quantile: float) -> io.NodeOutput:
    above("clamp_quantile", clamp_quantile, 0)
    at_most("clamp_quantile", clamp_quantile, 1, "1 is all of the numbers")
    lora, report = extract.extract(motion_model, goal, int(rank), layers, clamp_quantile)
    return io.NodeOutput((AppliedMotionLora(lora),), report, ui=ui.PreviewText(report))


def _merge_motion_loras(motion_lora: MotionLoras, rank: int) -> MotionLoras:
    if not motion_lora:
        raise EmptyInput(
            "The input motion_lora of Merge MotionLoRAs holds no MotionLoRA. Connect Load AnimateDiff LoRA, several in a chain."
        )
    return (AppliedMotionLora(merge.merged(motion_lora, int(rank))),)


NODES = [
    _node(
        _merge_motion_models,
        node_id="AnimateDiffMergeMotionModels",
        display_name="Merge Motion Models",
        description="A weighted mean of two motion models of one kind, with other weights for parts of the UNet if you like.",
        inputs=[
            sockets.MotionModelSocket.Input("motion_model_1", tooltip="The one that weight 0 gives."),
            sockets.MotionModelSocket.Input("motion_model_2", tooltip="The one that weight 1 gives."),
            io.Float.Input(
                "weight",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of motion_model_2: 0 is motion_model_1, 1 is motion_model_2.",
            ),
            io.String.Input(
                "blocks",
                default="",
                multiline=True,
                optional=True,
                tooltip="Other weights for some blocks, such as down: 0.2, mid: 0.5, up_1: 0.8, up_1__0: 0 (a level; a module of it).",
            ),
        ],
        outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
    ),
    _node(
        with_difference,
        node_id="AnimateDiffAddMotionModelDifference",
        display_name="Add Motion Model Difference",
        description="Adds what one motion model has learned beyond another to a third: base + (plus - minus) x strength.",
        inputs=[
            sockets.MotionModelSocket.Input("base", tooltip="What the difference is added to."),
            sockets.MotionModelSocket.Input("plus", tooltip="The fine-tuned motion model."),
            sockets.MotionModelSocket.Input("minus", tooltip="The motion model that plus was fine-tuned from."),
            io.Float.Input(
                "strength",
                default=1.0,
                min=-10.0,
                max=10.0,
                step=0.01,
                tooltip="How much of it is added; below 0, taken away.",
            ),
        ],
        outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
    ),
    _node(
        _merge_into,
        node_id="AnimateDiffMergeMotionLoRAsIntoModel",
        display_name="Merge MotionLoRAs into Motion Model",
        description="A motion model with MotionLoRAs in its weights, each at its strength: to save, or to merge with others.",
        inputs=[
            sockets.MotionModelSocket.Input(
                "motion_model", tooltip="The one that they are merged into; it stays as it is."
            ),
            sockets.MotionLora.Input("motion_lora", tooltip="A chain of Load AnimateDiff LoRA nodes; strengths count."),
        ],
        outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
    ),
    _node(
        _extract,
        node_id="AnimateDiffExtractMotionLoRA",
        display_name="Extract MotionLoRA",
        description="A MotionLoRA that brings one motion model to another of its kind, as far as its rank can; the report says how far.",
        inputs=[
            sockets.MotionModelSocket.Input("motion_model", tooltip="The one that the MotionLoRA will be used with."),
            sockets.MotionModelSocket.Input(
                "goal", tooltip="The one that motion_model and the MotionLoRA shall equal."
            ),
            io.Int.Input(
                "rank", default=64, min=1, max=MOST_RANK, tooltip="Size of the MotionLoRA: higher comes nearer to goal."
            ),
            io.Combo.Input(
                "layers",
                options=[extract.ALL_LINEAR, extract.ATTENTION],
                default=extract.ALL_LINEAR,
                tooltip="attention: as published MotionLoRAs have it, and the only layers that Schedule MotionLoRA can vary.",
            ),
            io.Float.Input(
                "clamp_quantile",
                default=1.0,
                min=0.5,
                max=1.0,
                step=0.001,
                tooltip="Below 1, the largest numbers of a layer are cut down to this quantile; kohya's scripts do so at 0.99.",
            ),
        ],
        outputs=[
            sockets.MotionLora.Output("MOTION_LORA"),
            io.String.Output("report", tooltip="How near the MotionLoRA comes to goal, as text."),
        ],
    ),
    _node(
        _merge_motion_loras,
        node_id="AnimateDiffMergeMotionLoRAs",
        display_name="Merge MotionLoRAs",
        description="One MotionLoRA that does what all of a chain do together, each at its strength.",
        inputs=[
            sockets.MotionLora.Input("motion_lora", tooltip="A chain of Load AnimateDiff LoRA nodes; strengths count."),
            io.Int.Input(
                "rank",
                default=0,
                min=0,
                max=MOST_RANK,
                tooltip="The most that a layer may have. 0: ranks add up, and nothing is lost.",
            ),
        ],
        outputs=[sockets.MotionLora.Output("MOTION_LORA")],
    ),
]
