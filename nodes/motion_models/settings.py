"""AnimateDiff settings: adjustments of a motion model's position tables and weights as it is loaded."""

from collections.abc import Callable

from comfy_api.latest import io

from ...motion_models.files.adjust import ADD, MULTIPLY, NO_CHANGE, Adjustments, PositionAdjustment, WeightAdjustment
from .. import sockets
from ..make import family

CATEGORY = "AnimateDiff/settings"
PositionSocket = io.Custom("PE_ADJUST")
WeightSocket = io.Custom("WEIGHT_ADJUST")

PRINT = io.Boolean.Input("print_adjustment", default=False, tooltip="Write the adjustment into the log.")


def _frames(name: str, tooltip: str, default: int = 0, **limits) -> io.Input:
    return io.Int.Input(name, default=default, min=0, tooltip=tooltip, **limits)


def _chained(socket, name: str) -> io.Input:
    return socket.Input(name, optional=True, tooltip="Adjustments that are made before these.")


_node = family(CATEGORY)


def _position_node(node_id: str, kind: str, description: str, inputs: list[io.Input], adjustment: Callable) -> type:
    def run(print_adjustment, prev_pe_adjust=(), **values):
        return (*prev_pe_adjust, adjustment(log=print_adjustment, **values))

    return _node(
        node_id,
        f"Adjust PE ({kind})",
        f"Adjust PE [{kind}]",
        description,
        run,
        [*inputs, PRINT, _chained(PositionSocket, "prev_pe_adjust")],
        PositionSocket.Output("PE_ADJUST"),
    )


def _weight_node(node_id: str, kind: str, operation: str, groups: tuple[str, ...]) -> type:
    suffix, word = {ADD: ("_ADD", "Add"), MULTIPLY: ("_MULT", "Mult")}[operation]
    least = -2.0 if operation == ADD else 0.0

    def run(print_adjustment, prev_weight_adjust=(), **values):
        amounts = {name.removesuffix(suffix): value for name, value in values.items()}
        return (*prev_weight_adjust, WeightAdjustment(operation, amounts, log=print_adjustment))

    return _node(
        node_id,
        f"Adjust Weight ({kind}, {word})",
        f"Adjust Weight [{kind}◆{word}]",
        "Adds to, or multiplies, groups of a motion model's weights as it is loaded. For experiments.",
        run,
        [
            *(
                io.Float.Input(f"{group}{suffix}", default=NO_CHANGE[operation], min=least, max=2.0, step=0.000001)
                for group in groups
            ),
            PRINT,
            _chained(WeightSocket, "prev_weight_adjust"),
        ],
        WeightSocket.Output("WEIGHT_ADJUST"),
    )


ALL, SOME = ("all",), ("pe", "attn", "other")
ATTENTION = ("pe", "attn", "attn_q", "attn_k", "attn_v", "attn_out_weight", "attn_out_bias", "other")

NODES = [
    _node(
        "ADE_AnimateDiffSettings",
        "AnimateDiff Settings",
        "AnimateDiff Settings",
        "Adjustments to make to a motion model as it is loaded.",
        lambda pe_adjust=(), weight_adjust=(): Adjustments(pe_adjust, weight_adjust),
        [
            PositionSocket.Input("pe_adjust", optional=True),
            WeightSocket.Input("weight_adjust", optional=True),
        ],
        sockets.Settings.Output("AD_SETTINGS"),
    ),
    _position_node(
        "ADE_AdjustPESweetspotStretch",
        "Sweetspot",
        "Spreads the first frames that a motion model knows best over more of them.",
        [
            _frames("sweetspot", "How many frames it knows best.", default=16, max=sockets.LARGEST),
            _frames("new_sweetspot", "How many frames to spread them over.", default=16, max=sockets.LARGEST),
        ],
        lambda sweetspot, new_sweetspot, log: PositionAdjustment(cap=sweetspot, length=new_sweetspot, log=log),
    ),
    _position_node(
        "ADE_AdjustPEFullStretch",
        "Full Stretch",
        "Spreads all frames that a motion model knows over more of them: slower motion, longer clips.",
        [_frames("pe_stretch", "How many frames longer.", max=sockets.LARGEST)],
        lambda pe_stretch, log: PositionAdjustment(stretch=pe_stretch, log=log),
    ),
    _position_node(
        "ADE_AdjustPEManual",
        "Manual",
        "Cuts and spreads a motion model's position table step by step. 0 skips a step.",
        [
            _frames("cap_initial_pe_length", "Keep so many of its first frames.", step=1),
            _frames("interpolate_pe_to_length", "Spread them over so many frames.", step=1),
            _frames("initial_pe_idx_offset", "Before that, drop so many frames at the beginning.", step=1),
            _frames("final_pe_idx_offset", "In the end, drop so many frames at the beginning.", step=1),
        ],
        lambda cap_initial_pe_length, interpolate_pe_to_length, initial_pe_idx_offset, final_pe_idx_offset, log: (
            PositionAdjustment(
                initial_offset=initial_pe_idx_offset,
                cap=cap_initial_pe_length,
                length=interpolate_pe_to_length,
                final_offset=final_pe_idx_offset,
                log=log,
            )
        ),
    ),
    _weight_node("ADE_AdjustWeightAllAdd", "All", ADD, ALL),
    _weight_node("ADE_AdjustWeightAllMult", "All", MULTIPLY, ALL),
    _weight_node("ADE_AdjustWeightIndivAdd", "Indiv", ADD, SOME),
    _weight_node("ADE_AdjustWeightIndivMult", "Indiv", MULTIPLY, SOME),
    _weight_node("ADE_AdjustWeightIndivAttnAdd", "Indiv-Attn", ADD, ATTENTION),
    _weight_node("ADE_AdjustWeightIndivAttnMult", "Indiv-Attn", MULTIPLY, ATTENTION),
]
