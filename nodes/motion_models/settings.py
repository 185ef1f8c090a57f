"""AnimateDiff settings: adjustments of a motion model's position tables and weights as it is loaded."""

from collections.abc import Callable
from functools import partial

from comfy_api.latest import io

from ...motion_models.files.adjust import ADD, MULTIPLY, NO_CHANGE, Adjustments, PositionAdjustment, WeightAdjustment
from .. import sockets
from ..base import Node, node

CATEGORY = "AnimateDiff/settings"
PositionSocket = sockets.Socket(
    "PE_ADJUST", "For pe_adjust of AnimateDiff Settings, or prev_pe_adjust of another Adjust PE node."
)
WeightSocket = sockets.Socket(
    "WEIGHT_ADJUST", "For weight_adjust of AnimateDiff Settings, or prev_weight_adjust of another Adjust Weight node."
)
# What a group of weights takes in.
GROUPS = {
    "all": "all weights",
    "pe": "the position tables",
    "attn": "all weights of temporal attention but the position tables",
    "attn_q": "the weights that make queries",
    "attn_k": "the weights that make keys",
    "attn_v": "the weights that make values",
    "attn_out_weight": "the weights of attention's output",
    "attn_out_bias": "the biases of attention's output",
    "other": "all weights outside of attention",
}
# What is said of an amount, behind its group. Weights of motion models are mostly below 0.1.
AMOUNTS = {
    ADD: "Added to {}. 0: no change; even 0.01 is much.",
    MULTIPLY: "Multiplies {}. 1: no change; 0.9 and 1.1 are mild.",
}
# What the numbers of frames do to a position table, by their widgets.
POSITIONS = {
    "cap_initial_pe_length": "Keep so many of its first frames. 0: all.",
    "interpolate_pe_to_length": "Spread them over so many frames. 0: as they are.",
    "initial_pe_idx_offset": "Before that, drop so many frames at the beginning. 0: none.",
    "final_pe_idx_offset": "In the end, drop so many frames at the beginning. 0: none.",
}

PRINT = io.Boolean.Input("print_adjustment", default=False, tooltip="Write the adjustment into the log.")


def _frames(name: str, tooltip: str, default: int = 0, **limits) -> io.Input:
    return io.Int.Input(name, default=default, min=0, tooltip=tooltip, **limits)


def _chained(socket, name: str) -> io.Input:
    return socket.Input(name, optional=True, tooltip="Adjustments that are made before these.")


_node = partial(node, category=CATEGORY)


def _position_node(adjustment: Callable, *, kind: str, inputs: list[io.Input], **fields) -> type[Node]:
    """``adjustment``: log and the values of ``inputs`` -> PositionAdjustment."""

    def run(
        print_adjustment: bool, prev_pe_adjust: tuple[PositionAdjustment, ...] = (), **values: int
    ) -> tuple[PositionAdjustment, ...]:
        return (*prev_pe_adjust, adjustment(log=print_adjustment, **values))

    return _node(
        run,
        display_name=f"Adjust PE ({kind})",
        old_name=f"Adjust PE [{kind}]",
        inputs=[*inputs, PRINT, _chained(PositionSocket, "prev_pe_adjust")],
        outputs=[PositionSocket.Output("PE_ADJUST")],
        **fields,
    )


def _weight_node(*, node_id: str, kind: str, operation: str, groups: tuple[str, ...]) -> type[Node]:
    suffix, word = {ADD: ("_ADD", "Add"), MULTIPLY: ("_MULT", "Mult")}[operation]
    least = -2.0 if operation == ADD else 0.0

    def run(
        print_adjustment: bool, prev_weight_adjust: tuple[WeightAdjustment, ...] = (), **values: float
    ) -> tuple[WeightAdjustment, ...]:
        amounts = {name.removesuffix(suffix): value for name, value in values.items()}
        return (*prev_weight_adjust, WeightAdjustment(operation, amounts, log=print_adjustment))

    return _node(
        run,
        node_id=node_id,
        display_name=f"Adjust Weight ({kind}, {word})",
        old_name=f"Adjust Weight [{kind}\u25c6{word}]",
        description="Adds to, or multiplies, groups of a motion model's weights as it is loaded. For experiments.",
        inputs=[
            *(
                io.Float.Input(
                    f"{group}{suffix}",
                    default=NO_CHANGE[operation],
                    min=least,
                    max=2.0,
                    step=0.000001,
                    tooltip=AMOUNTS[operation].format(GROUPS[group]),
                )
                for group in groups
            ),
            PRINT,
            _chained(WeightSocket, "prev_weight_adjust"),
        ],
        outputs=[WeightSocket.Output("WEIGHT_ADJUST")],
    )


ALL, SOME = ("all",), ("pe", "attn", "other")
ATTENTION = ("pe", "attn", "attn_q", "attn_k", "attn_v", "attn_out_weight", "attn_out_bias", "other")

NODES = [
    _node(
        lambda pe_adjust=(), weight_adjust=(): Adjustments(pe_adjust, weight_adjust),
        node_id="ADE_AnimateDiffSettings",
        display_name="AnimateDiff Settings",
        old_name="AnimateDiff Settings",
        description="Adjustments to make to a motion model as it is loaded.",
        inputs=[
            PositionSocket.Input(
                "pe_adjust", optional=True, tooltip="Changes of the position tables: how frames are told apart."
            ),
            WeightSocket.Input("weight_adjust", optional=True, tooltip="Changes of the weights."),
        ],
        outputs=[sockets.Settings.Output("AD_SETTINGS")],
    ),
    _position_node(
        lambda sweetspot, new_sweetspot, log: PositionAdjustment(cap=sweetspot, length=new_sweetspot, log=log),
        node_id="ADE_AdjustPESweetspotStretch",
        kind="Sweetspot",
        description="Spreads the first frames that a motion model knows best over more of them.",
        inputs=[
            _frames(
                "sweetspot",
                "How many of its first frames it knows best; most were trained on 16.",
                default=16,
                max=sockets.LARGEST,
            ),
            _frames(
                "new_sweetspot",
                "How many frames to spread them over: 24 makes half as many again of 16.",
                default=16,
                max=sockets.LARGEST,
            ),
        ],
    ),
    _position_node(
        lambda pe_stretch, log: PositionAdjustment(stretch=pe_stretch, log=log),
        node_id="ADE_AdjustPEFullStretch",
        kind="Full Stretch",
        description="Spreads all frames that a motion model knows over more of them: slower motion, longer clips.",
        inputs=[
            _frames(
                "pe_stretch",
                "How many frames longer the position tables become: 8 make 32 of 24. 0: as they are.",
                max=sockets.LARGEST,
            )
        ],
    ),
    _position_node(
        lambda cap_initial_pe_length, interpolate_pe_to_length, initial_pe_idx_offset, final_pe_idx_offset, log: (
            PositionAdjustment(
                initial_offset=initial_pe_idx_offset,
                cap=cap_initial_pe_length,
                length=interpolate_pe_to_length,
                final_offset=final_pe_idx_offset,
                log=log,
            )
        ),
        node_id="ADE_AdjustPEManual",
        kind="Manual",
        description="Cuts and spreads a motion model's position table step by step. 0 skips a step.",
        inputs=[*(_frames(name, tooltip, step=1) for name, tooltip in POSITIONS.items())],
    ),
    _weight_node(node_id="ADE_AdjustWeightAllAdd", kind="All", operation=ADD, groups=ALL),
    _weight_node(node_id="ADE_AdjustWeightAllMult", kind="All", operation=MULTIPLY, groups=ALL),
    _weight_node(node_id="ADE_AdjustWeightIndivAdd", kind="Indiv", operation=ADD, groups=SOME),
    _weight_node(node_id="ADE_AdjustWeightIndivMult", kind="Indiv", operation=MULTIPLY, groups=SOME),
    _weight_node(node_id="ADE_AdjustWeightIndivAttnAdd", kind="Indiv-Attn", operation=ADD, groups=ATTENTION),
    _weight_node(node_id="ADE_AdjustWeightIndivAttnMult", kind="Indiv-Attn", operation=MULTIPLY, groups=ATTENTION),
]
