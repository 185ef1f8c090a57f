"""Custom CFG: guidance that varies over the run, the frames and the picture, and what comes with it."""

from collections.abc import Callable

from comfy_api.latest import io

from ...sampling.guidance import custom_cfg as guidance
from ...sampling.guidance.custom_cfg import CfgKeyframe, CustomCfg, Extra
from ...sampling.guidance.perturbed_attention import PerturbedAttention
from ...sampling.guidance.rescale_cfg import RescaleCfg
from ...sampling.keyframes import chained, log_keyframes
from ...sampling.schedules.interpolation import interpolated
from ...sampling.strength.multival import Multival
from .. import sockets
from ..base import Node, node
from ..values import check_keyframes

CATEGORY = "AnimateDiff/sample settings"
CfgExtras = sockets.Socket("CFG_EXTRAS", "For cfg_extras of a Custom CFG node, or prev_extras of another extra.")
Extras = tuple[Extra, ...]


def _cfg(name: str, tooltip: str) -> io.Input:
    tooltip += " 7 to 8 are usual, 1 to 2 for LCM models; 1 leaves the negative prompt out."
    return io.Float.Input(name, default=8.0, min=0.0, max=100.0, step=0.1, tooltip=tooltip)


CFG = _cfg("cfg", "Guidance scale.")
CFG_MULTIVAL = sockets.Multival.Input(
    "cfg_multival", tooltip="Guidance scale: a number, one per frame, or a mask. 7 to 8 are usual."
)
EXTRAS = CfgExtras.Input("cfg_extras", optional=True, tooltip="Further guidance while this CFG counts.")
PREV_CFG = sockets.CustomCfg.Input("prev_custom_cfg", optional=True, tooltip="Keyframes that count besides these.")


def _cfg_node(run: Callable, **fields) -> type[Node]:
    return node(run, category=f"{CATEGORY}/custom cfg", outputs=[sockets.CustomCfg.Output("CUSTOM_CFG")], **fields)


def _one_keyframe(
    cfg: float | None = None,
    cfg_multival: Multival | None = None,
    start_percent: float = 0.0,
    guarantee_steps: int = 1,
    prev_custom_cfg: CustomCfg = (),
    cfg_extras: Extras = (),
) -> CustomCfg:
    value = cfg if cfg_multival is None else cfg_multival
    return chained((CfgKeyframe(value, start_percent, guarantee_steps, cfg_extras),), prev_custom_cfg)


def _interpolated_keyframes(
    cfg_start: float, cfg_end: float, interpolation: str, intervals: int, **keyframes
) -> CustomCfg:
    check_keyframes("intervals", intervals)
    return _many_keyframes(interpolated(cfg_start, cfg_end, intervals, interpolation).tolist(), **keyframes)


def _keyframes_of_list(cfgs_float: float | list[float], **keyframes) -> CustomCfg:
    values = cfgs_float if isinstance(cfgs_float, list) else [cfgs_float]
    check_keyframes("The number of cfgs_float", len(values))
    return _many_keyframes([float(cfg) for cfg in values], **keyframes)


def _many_keyframes(
    values: list[float],
    start_percent: float,
    end_percent: float,
    print_keyframes: bool,
    prev_custom_cfg: CustomCfg = (),
    cfg_extras: Extras = (),
) -> CustomCfg:
    keyframes = guidance.keyframes_between(start_percent, end_percent, values, cfg_extras)
    if print_keyframes:
        log_keyframes("CFG", ((keyframe.start_percent, keyframe.cfg) for keyframe in keyframes))
    return chained(keyframes, prev_custom_cfg)


SCHEDULED = [
    sockets.percent("start_percent", "From where in the sampling schedule on it counts."),
    sockets.guarantee_steps(),
    PREV_CFG,
    EXTRAS,
]
START = sockets.percent("start_percent", "Where in the sampling schedule the first one counts.")
END = sockets.percent("end_percent", "Where in the sampling schedule the last one counts.", default=1.0)
PRINT = io.Boolean.Input("print_keyframes", default=False, tooltip="Write the keyframes into the log.")

CFG_NODES = [
    _cfg_node(
        _one_keyframe,
        node_id="ADE_CustomCFGSimple",
        display_name="Custom CFG",
        old_name="Custom CFG",
        description="Another CFG.",
        inputs=[CFG, EXTRAS],
    ),
    _cfg_node(
        _one_keyframe,
        node_id="ADE_CustomCFG",
        display_name="Custom CFG (Multival)",
        old_name="Custom CFG [Multival]",
        description="Another CFG, also for each frame or as a mask.",
        inputs=[CFG_MULTIVAL, EXTRAS],
    ),
    _cfg_node(
        _one_keyframe,
        node_id="ADE_CustomCFGKeyframeSimple",
        display_name="Custom CFG Keyframe",
        old_name="Custom CFG Keyframe",
        description="Another CFG from a place in the sampling schedule on.",
        inputs=[CFG, *SCHEDULED],
    ),
    _cfg_node(
        _one_keyframe,
        node_id="ADE_CustomCFGKeyframe",
        display_name="Custom CFG Keyframe (Multival)",
        old_name="Custom CFG Keyframe [Multival]",
        description="The same, also for each frame or as a mask.",
        inputs=[CFG_MULTIVAL, *SCHEDULED],
    ),
    _cfg_node(
        _interpolated_keyframes,
        node_id="ADE_CustomCFGKeyframeInterpolation",
        display_name="Custom CFG Keyframes (Interpolated)",
        old_name="Custom CFG Keyframes Interp.",
        description="CFG that goes from one value to another.",
        inputs=[
            START,
            END,
            _cfg("cfg_start", "Guidance scale of the first keyframe."),
            _cfg("cfg_end", "Guidance scale of the last keyframe."),
            sockets.interpolation(),
            io.Int.Input("intervals", default=50, min=2, max=100, step=1, tooltip="How many keyframes, spread evenly."),
            PRINT,
            PREV_CFG,
            EXTRAS,
        ],
    ),
    _cfg_node(
        _keyframes_of_list,
        node_id="ADE_CustomCFGKeyframeFromList",
        display_name="Custom CFG Keyframes From List",
        old_name="Custom CFG Keyframes From List",
        description="CFG values one after the other, evenly over the sampling schedule.",
        inputs=[
            sockets.FloatOrMore(
                "cfgs_float",
                min=-1,
                step=0.001,
                force_input=True,
                tooltip="A list of guidance scales, one for each keyframe. 7 to 8 are usual.",
            ),
            START,
            END,
            PRINT,
            PREV_CFG,
            EXTRAS,
        ],
    ),
]


def _extra_node(extra: type[Extra], *, kind: str, value: io.Input, **fields) -> type[Node]:
    """``value``: the input that ``extra`` is made of."""

    def run(prev_extras: Extras = (), **values) -> Extras:
        return (*prev_extras, extra(values[value.id]))

    return node(
        run,
        display_name=f"CFG Extras: {kind}",
        old_name=f"CFG Extras\u25c6{kind.replace('(', '[').replace(')', ']')}",
        category=f"{CATEGORY}/cfg extras",
        inputs=[value, CfgExtras.Input("prev_extras", optional=True, tooltip="Extras that count besides this one.")],
        outputs=[CfgExtras.Output("CFG_EXTRAS")],
        **fields,
    )


PAG = "Perturbed attention guidance: more structure, at the cost of another pass of the UNet."
RESCALE = "Keeps high CFG from burning the picture."
PAG_STRENGTH = sockets.Multival.Input(
    "scale_multival", tooltip="How strongly: a number, one per frame, or a mask. 3 is usual. 0: off."
)
RESCALE_STRENGTH = sockets.Multival.Input(
    "mult_multival", tooltip="How much of it: a number, one per frame, or a mask, from 0 to 1. 0.7 is usual. 0: off."
)
EXTRA_NODES = [
    _extra_node(
        PerturbedAttention,
        node_id="ADE_CFGExtrasPAGSimple",
        kind="PAG",
        description=PAG,
        value=io.Float.Input(
            "scale", default=3.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="How strongly. 3 is usual. 0: off."
        ),
    ),
    _extra_node(
        PerturbedAttention,
        node_id="ADE_CFGExtrasPAG",
        kind="PAG (Multival)",
        description=PAG,
        value=PAG_STRENGTH,
    ),
    _extra_node(
        RescaleCfg,
        node_id="ADE_CFGExtrasRescaleCFGSimple",
        kind="RescaleCFG",
        description=RESCALE,
        value=io.Float.Input(
            "multiplier", default=0.7, min=0.0, max=1.0, step=0.01, tooltip="How much of it. 0.7 is usual. 0: off."
        ),
    ),
    _extra_node(
        RescaleCfg,
        node_id="ADE_CFGExtrasRescaleCFG",
        kind="RescaleCFG (Multival)",
        description=RESCALE,
        value=RESCALE_STRENGTH,
    ),
]


def _on_model(extra: type[Extra], *, put_on: Callable, kind: str, value: io.Input, **fields) -> type[Node]:
    """The same for all of a MODEL's runs, with or without motion models. ``value``: the input ``extra`` is made of."""

    def run(model, **values: Multival):
        model = model.clone()
        put_on(model)(extra(values[value.id]))
        return model

    return node(
        run,
        display_name=f"{kind} (Multival)",
        category=f"{CATEGORY}/cfg extras",
        inputs=[sockets.model("The MODEL to guide, with or without motion models."), value],
        outputs=[sockets.MODEL_OUTPUT],
        **fields,
    )


MODEL_NODES = [
    _on_model(
        PerturbedAttention,
        put_on=lambda model: model.set_model_sampler_post_cfg_function,
        node_id="ADE_PerturbedAttentionGuidanceMultival",
        kind="Perturbed Attention Guidance",
        description=PAG,
        value=PAG_STRENGTH,
    ),
    _on_model(
        RescaleCfg,
        put_on=lambda model: model.set_model_sampler_cfg_function,
        node_id="ADE_RescaleCFGMultival",
        kind="RescaleCFG",
        description=RESCALE,
        value=RESCALE_STRENGTH,
    ),
]

NODES = [*CFG_NODES, *EXTRA_NODES, *MODEL_NODES]
