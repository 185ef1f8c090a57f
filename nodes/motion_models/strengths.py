"""Strengths that may vary: multivals, per-block settings, keyframes."""

from functools import partial

import torch
from comfy_api.latest import io

from ...sampling.strength import multival
from ...sampling.strength.per_block import Block, BlockAt, PerBlock
from .. import sockets
from ..base import Node, node

_multival = partial(node, category="AnimateDiff/multival")
_block_node = partial(node, category="AnimateDiff/per block")
AdBlock = sockets.Socket("AD_BLOCK", "Scale and effect of a block, for the inputs of AD Per Block nodes.")


def _number(name: str, default: float | None, tooltip: str, **options) -> io.Input:
    return sockets.FloatOrMore(name, default=default, min=0.0, step=0.001, tooltip=tooltip, **options)


MASK = io.Mask.Input(
    "mask_optional",
    optional=True,
    tooltip="Where in the picture, one mask for each frame; the last one serves the rest.",
)


# over a FLOAT socket other packs' schedules hand on lists, one number for each frame
Numbers = float | list[float]


def _of_numbers(float_val: Numbers, mask_optional: torch.Tensor | None = None) -> multival.Multival:
    return multival.of_numbers(float_val, mask_optional)


def _scaled_mask(
    min_float_val: Numbers, max_float_val: Numbers, mask: torch.Tensor, scaling: str = "absolute"
) -> multival.Multival:
    return multival.scaled_mask(mask, min_float_val, max_float_val, relative=scaling == "relative")


MULTIVAL = sockets.Multival.Output("MULTIVAL")
MULTIVAL_NODES = [
    _multival(
        _of_numbers,
        node_id="ADE_MultivalDynamic",
        display_name="Multival",
        old_name="Multival",
        description="A strength: one number, or a mask times a number.",
        inputs=[_number("float_val", 1.0, "The strength. A list, one number for each frame, may be connected."), MASK],
        outputs=[MULTIVAL],
    ),
    _multival(
        _of_numbers,
        node_id="ADE_MultivalDynamicFloatInput",
        display_name="Multival (Float List)",
        old_name="Multival [Float List]",
        description="A strength for each frame.",
        inputs=[
            _number("float_val", None, "A number, or a list with one for each frame.", max=10.0, force_input=True),
            MASK,
        ],
        outputs=[MULTIVAL],
    ),
    _multival(
        lambda floats, mask_optional=None: multival.of_numbers(floats, mask_optional),
        node_id="ADE_MultivalDynamicFloats",
        display_name="Multival (Floats)",
        old_name="Multival [Floats]",
        description="A strength for each frame.",
        inputs=[
            sockets.Floats.Input(
                "floats",
                tooltip="A number for each frame; the last one serves the rest.",
                extra_dict={"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.001},
            ),
            MASK,
        ],
        outputs=[MULTIVAL],
    ),
    _multival(
        _scaled_mask,
        node_id="ADE_MultivalScaledMask",
        display_name="Multival Scaled Mask",
        old_name="Multival Scaled Mask",
        description="A strength from a mask, whose black and white become two numbers.",
        inputs=[
            _number("min_float_val", 0.0, "The strength where the mask is 0."),
            _number("max_float_val", 1.0, "The strength where the mask is 1."),
            io.Mask.Input(
                "mask", tooltip="Where in the picture, one mask for each frame; the last one serves the rest."
            ),
            io.Combo.Input(
                "scaling",
                options=["absolute", "relative"],
                optional=True,
                tooltip="relative: the mask's own smallest and largest value count as 0 and 1.",
            ),
        ],
        outputs=[MULTIVAL],
    ),
    _multival(
        lambda **values: multival.as_mask(values["multival"]),
        node_id="ADE_MultivalConvertToMask",
        display_name="Multival to Mask",
        old_name="Multival to Mask",
        description="A strength as a mask.",
        inputs=[sockets.Multival.Input("multival", tooltip="The strength, as a Multival node makes it.")],
        outputs=[io.Mask.Output("MASK", tooltip="The strength as a mask; a single number is a mask of one pixel.")],
    ),
]


def _block(effect: multival.Multival | None = None, scale: multival.Multival | None = None) -> Block | None:
    return _block_of_two(effect, scale, scale)


def _block_of_two(
    effect: multival.Multival | None = None,
    scale_0: multival.Multival | None = None,
    scale_1: multival.Multival | None = None,
) -> Block | None:
    """None if there is nothing to say."""
    return None if effect is scale_0 is scale_1 is None else Block(effect, (scale_0, scale_1))


# Where a block is, by the part, the level and the motion module of its place.
PARTS = {
    "down": ("on the UNet's way down", "level 0 has the finest features"),
    "mid": ("in the middle of the UNet (v2 models only)", ""),
    "up": ("on the UNet's way up", "level 0 has the coarsest features"),
}


def _of_place(part: str, level: int | None = None, module: int | None = None) -> str:
    where, order = PARTS[part]
    which = "the motion modules" if module is None else f"motion module {module}"
    if level is None:
        return f"Scale and effect of {which} {where}: an AD Block."
    return f"Scale and effect of {which} at level {level} {where} ({order}): an AD Block."


def _per_block_node(*, node_id: str, name: str, model_family: str | None, places: dict[str, tuple]) -> type[Node]:
    """``places``: input name -> part, level, module."""

    def run(**blocks: Block) -> PerBlock:
        entries = (BlockAt(blocks[name], *place) for name, place in places.items() if name in blocks)
        return PerBlock(tuple(entries), model_family)

    return _block_node(
        run,
        node_id=node_id,
        display_name=name,
        old_name=name,
        description="Scale and effect for parts of the UNet. Of what is left open, the Apply node's count.",
        inputs=[AdBlock.Input(name, optional=True, tooltip=_of_place(*place)) for name, place in places.items()],
        outputs=[sockets.PerBlock.Output("PER_BLOCK")],
    )


def _from_floats_node(*, model_family: str, short: str, places: list[tuple]) -> type[Node]:
    count = len(places)
    effect_name, scale_name = f"effect_{count}_floats", f"scale_{count}_floats"

    def run(**values) -> PerBlock:
        effects, scales = (_one_each(values.get(name), count) for name in (effect_name, scale_name))
        entries = (
            BlockAt(Block(effect, () if scale is None else (scale, scale)), *place)
            for effect, scale, place in zip(effects, scales, places, strict=True)
        )
        return PerBlock(tuple(entries), model_family)

    return _block_node(
        run,
        node_id=f"ADE_PerBlock_{short}_FromFloats",
        display_name=f"AD Per Block Floats ({model_family})",
        old_name=f"AD Per Block Floats ({model_family})",
        description="Scale and effect for every motion module, as lists of numbers.",
        inputs=[
            sockets.Floats.Input(
                name, optional=True, tooltip=f"{count} numbers: down, mid, up; the last one serves the rest."
            )
            for name in (effect_name, scale_name)
        ],
        outputs=[sockets.PerBlock.Output("PER_BLOCK")],
    )


def _one_each(values: Numbers | None, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    values = [float(value) for value in (values if isinstance(values, list) else [values])]
    return (values + [values[-1]] * count)[:count]


def _levels(levels: int) -> dict[str, tuple]:
    sides = {side: {f"{side}_{i}": (side, i, None) for i in range(levels)} for side in ("down", "up")}
    return {**sides["down"], "mid": ("mid", None, None), **sides["up"]}


def _modules(levels: int) -> dict[str, tuple]:
    sides = {
        side: {f"{side}_{i}__{j}": (side, i, j) for i in range(levels) for j in range(count)}
        for side, count in (("down", 2), ("up", 3))
    }
    return {**sides["down"], "mid": ("mid", None, None), **sides["up"]}


FAMILIES = (("SD1.5", "SD15", 4), ("SDXL", "SDXL", 3))
STRENGTHS = {
    "effect": "How much of the block reaches the picture: 0 none, 1 all of it.",
    "scale": "Strength of motion: multiplies the attention keys. 1: as trained.",
}

BLOCK_NODES = [
    _block_node(
        _block,
        node_id="ADE_ADBlockCombo",
        display_name="AD Block",
        old_name="AD Block",
        description="Scale and effect of a block.",
        inputs=[sockets.Multival.Input(name, optional=True, tooltip=tooltip) for name, tooltip in STRENGTHS.items()],
        outputs=[AdBlock.Output("AD_BLOCK")],
    ),
    _block_node(
        _block_of_two,
        node_id="ADE_ADBlockIndiv",
        display_name="AD Block+",
        old_name="AD Block+",
        description="Effect of a block, and a scale for each of its two attention layers.",
        inputs=[
            sockets.Multival.Input(name, optional=True, tooltip=tooltip)
            for name, tooltip in {
                "effect": STRENGTHS["effect"],
                "scale_0": "Multiplies the keys of the block's first attention layer. 1: as trained.",
                "scale_1": "Multiplies the keys of the block's second attention layer. 1: as trained.",
            }.items()
        ],
        outputs=[AdBlock.Output("AD_BLOCK")],
    ),
    _per_block_node(
        node_id="ADE_PerBlockHighLevel",
        name="AD Per Block",
        model_family=None,
        places={part: (part,) for part in ("down", "mid", "up")},
    ),
]
for model_family, short, levels in FAMILIES:
    for plus, depth, places in (("+", "MidLevel", _levels(levels)), ("++", "LowLevel", _modules(levels))):
        BLOCK_NODES.append(
            _per_block_node(
                node_id=f"ADE_PerBlock_{short}_{depth}",
                name=f"AD Per Block{plus} ({model_family})",
                model_family=model_family,
                places=places,
            )
        )
    BLOCK_NODES.append(
        _from_floats_node(model_family=model_family, short=short, places=list(_modules(levels).values()))
    )


NODES = [*MULTIVAL_NODES, *BLOCK_NODES]
