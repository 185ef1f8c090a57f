"""Strengths that may vary: multivals, per-block settings, keyframes."""

from comfy_api.latest import io

from ...sampling.motion.applied import Keyframe, with_keyframe
from ...sampling.strength import multival
from ...sampling.strength.per_block import Block, BlockAt, PerBlock
from .. import sockets
from ..make import family, node

_multival = family("AnimateDiff/multival")
_block_node = family("AnimateDiff/per block")
AdBlock = io.Custom("AD_BLOCK")


def _number(name: str, default: float, tooltip: str, **options) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, step=0.001, tooltip=tooltip, **options)


MASK = io.Mask.Input(
    "mask_optional",
    optional=True,
    tooltip="Where in the picture, one mask for each frame; the last one serves the rest.",
)


def _scaled_mask(min_float_val, max_float_val, mask, scaling="absolute"):
    return multival.scaled_mask(mask, min_float_val, max_float_val, relative=scaling == "relative")


MULTIVAL = sockets.Multival.Output("MULTIVAL")
MULTIVAL_NODES = [
    _multival(
        "ADE_MultivalDynamic",
        "Multival",
        "Multival",
        "A strength: one number, or a mask times a number.",
        lambda float_val, mask_optional=None: multival.of_numbers(float_val, mask_optional),
        [_number("float_val", 1.0, "The strength. A list, one number for each frame, may be connected."), MASK],
        MULTIVAL,
    ),
    _multival(
        "ADE_MultivalDynamicFloatInput",
        "Multival (Float List)",
        "Multival [Float List]",
        "A strength for each frame.",
        lambda float_val, mask_optional=None: multival.of_numbers(float_val, mask_optional),
        [_number("float_val", 1.0, "A number, or a list with one for each frame.", max=10.0, force_input=True), MASK],
        MULTIVAL,
    ),
    _multival(
        "ADE_MultivalDynamicFloats",
        "Multival (Floats)",
        "Multival [Floats]",
        "A strength for each frame.",
        lambda floats, mask_optional=None: multival.of_numbers(floats, mask_optional),
        [
            sockets.Floats.Input(
                "floats",
                tooltip="A number for each frame; the last one serves the rest.",
                extra_dict={"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.001},
            ),
            MASK,
        ],
        MULTIVAL,
    ),
    _multival(
        "ADE_MultivalScaledMask",
        "Multival Scaled Mask",
        "Multival Scaled Mask",
        "A strength from a mask, whose black and white become two numbers.",
        _scaled_mask,
        [
            _number("min_float_val", 0.0, "The strength where the mask is 0."),
            _number("max_float_val", 1.0, "The strength where the mask is 1."),
            io.Mask.Input("mask"),
            io.Combo.Input(
                "scaling",
                options=["absolute", "relative"],
                optional=True,
                tooltip="relative: the mask's own smallest and largest value count as 0 and 1.",
            ),
        ],
        MULTIVAL,
    ),
    _multival(
        "ADE_MultivalConvertToMask",
        "Multival to Mask",
        "Multival to Mask",
        "A strength as a mask.",
        lambda **values: multival.as_mask(values["multival"]),
        [sockets.Multival.Input("multival")],
        io.Mask.Output("MASK"),
    ),
]


def _block(effect=None, scale=None):
    # both of them None: nothing to say
    return None if effect is None and scale is None else Block(effect, (scale, scale))


def _block_of_two(effect=None, scale_0=None, scale_1=None):
    return None if effect is scale_0 is scale_1 is None else Block(effect, (scale_0, scale_1))


def _per_block_node(node_id: str, name: str, old_name: str, model_family: str | None, places: dict[str, tuple]) -> type:
    """``places``: input name -> part, level, module."""

    def run(**blocks):
        entries = (BlockAt(blocks[name], *place) for name, place in places.items() if blocks.get(name) is not None)
        return PerBlock(tuple(entries), model_family)

    return _block_node(
        node_id,
        name,
        old_name,
        "Scale and effect for parts of the UNet. Of what is left open, the Apply node's count.",
        run,
        [AdBlock.Input(name, optional=True) for name in places],
        sockets.PerBlock.Output("PER_BLOCK"),
    )


def _from_floats_node(model_family: str, short: str, places: list[tuple]) -> type:
    count = len(places)
    effect_name, scale_name = f"effect_{count}_floats", f"scale_{count}_floats"

    def run(**values):
        effects, scales = (_one_each(values.get(name), count) for name in (effect_name, scale_name))
        entries = (
            BlockAt(Block(effect, () if scale is None else (scale, scale)), *place)
            for effect, scale, place in zip(effects, scales, places, strict=True)
        )
        return PerBlock(tuple(entries), model_family)

    return _block_node(
        f"ADE_PerBlock_{short}_FromFloats",
        f"AD Per Block Floats ({model_family})",
        f"AD Per Block Floats ({model_family})",
        "Scale and effect for every motion module, as lists of numbers.",
        run,
        [
            sockets.Floats.Input(
                name, optional=True, tooltip=f"{count} numbers: down, mid, up; the last one serves the rest."
            )
            for name in (effect_name, scale_name)
        ],
        sockets.PerBlock.Output("PER_BLOCK"),
    )


def _one_each(values, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    values = [float(value) for value in (values if isinstance(values, (list, tuple)) else [values])]
    if not values:
        raise ValueError(f"A list of per block numbers is empty. Connect {count} numbers, or disconnect it.")
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
STRENGTHS = {"effect": "How much of the block reaches the picture.", "scale": "Multiplies the attention keys."}

BLOCK_NODES = [
    _block_node(
        "ADE_ADBlockCombo",
        "AD Block",
        "AD Block",
        "Scale and effect of a block.",
        _block,
        [sockets.Multival.Input(name, optional=True, tooltip=tooltip) for name, tooltip in STRENGTHS.items()],
        AdBlock.Output("AD_BLOCK"),
    ),
    _block_node(
        "ADE_ADBlockIndiv",
        "AD Block+",
        "AD Block+",
        "Effect of a block, and a scale for each of its two attention layers.",
        _block_of_two,
        [sockets.Multival.Input(name, optional=True) for name in ("effect", "scale_0", "scale_1")],
        AdBlock.Output("AD_BLOCK"),
    ),
    _per_block_node(
        "ADE_PerBlockHighLevel", "AD Per Block", "AD Per Block", None, {part: (part,) for part in ("down", "mid", "up")}
    ),
]
for model_family, short, levels in FAMILIES:
    for plus, depth, places in (("+", "MidLevel", _levels(levels)), ("++", "LowLevel", _modules(levels))):
        name = f"AD Per Block{plus} ({model_family})"
        BLOCK_NODES.append(_per_block_node(f"ADE_PerBlock_{short}_{depth}", name, name, model_family, places))
    BLOCK_NODES.append(_from_floats_node(model_family, short, list(_modules(levels).values())))


def _keyframe(
    start_percent,
    prev_ad_keyframes=(),
    scale_multival=None,
    effect_multival=None,
    per_block_replace=None,
    inherit_missing=True,
    guarantee_steps=1,
):
    keyframe = Keyframe(
        start_percent, scale_multival, effect_multival, per_block_replace, inherit_missing, guarantee_steps
    )
    return with_keyframe(keyframe, prev_ad_keyframes or ())


KEYFRAME_NODE = node(
    _keyframe,
    [
        sockets.percent("start_percent", "From where in the sampling schedule on it counts."),
        sockets.Keyframes.Input("prev_ad_keyframes", optional=True, tooltip="Keyframes that count besides this one."),
        sockets.Multival.Input("scale_multival", optional=True, tooltip="Multiplies the scale of the Apply node."),
        sockets.Multival.Input("effect_multival", optional=True, tooltip="Multiplies the effect of the Apply node."),
        sockets.PerBlock.Input("per_block_replace", optional=True, tooltip="Replaces per_block of the Apply node."),
        io.Boolean.Input(
            "inherit_missing",
            default=True,
            optional=True,
            tooltip="What is not connected here keeps the value of the keyframe before; else it is 1.",
        ),
        sockets.guarantee_steps(optional=True),
    ],
    [sockets.Keyframes.Output("AD_KEYFRAMES")],
    node_id="ADE_AnimateDiffKeyframe",
    display_name="AnimateDiff Keyframe",
    category="AnimateDiff",
    description="Changes scale and effect of a motion model at a place in the sampling schedule.",
    search_aliases=["AnimateDiff Keyframe 🎭🅐🅓"],
)

NODES = [*MULTIVAL_NODES, *BLOCK_NODES, KEYFRAME_NODE]
