"""Custom CFG: guidance that varies over the run, the frames and the picture, and what comes with it."""

from comfy_api.latest import io

from ...sampling.guidance import custom_cfg as guidance
from ...sampling.guidance.custom_cfg import CfgKeyframe
from ...sampling.guidance.perturbed_attention import PerturbedAttention
from ...sampling.guidance.rescale_cfg import RescaleCfg
from ...sampling.schedules.interpolation import METHODS, interpolated
from .. import sockets
from ..make import family, node

CATEGORY = "AnimateDiff/sample settings"
CfgExtras = io.Custom("CFG_EXTRAS")
_node = family(CATEGORY)

CFG = io.Float.Input("cfg", default=8.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance scale.")
CFG_MULTIVAL = sockets.Multival.Input("cfg_multival", tooltip="Guidance scale: a number, per frame, or a mask.")
EXTRAS = CfgExtras.Input("cfg_extras", optional=True, tooltip="Further guidance while this CFG counts.")
PREV_CFG = sockets.CustomCfg.Input("prev_custom_cfg", optional=True, tooltip="Keyframes that count besides these.")


def _cfg_node(node_id: str, name: str, old_name: str, description: str, run, inputs: list) -> type:
    output = sockets.CustomCfg.Output("CUSTOM_CFG")
    return _node(node_id, name, old_name, description, run, inputs, output, "custom cfg")


def _one_keyframe(cfg=None, cfg_multival=None, start_percent=0.0, guarantee_steps=1, prev_custom_cfg=(), cfg_extras=()):
    value = cfg if cfg_multival is None else cfg_multival
    keyframe = CfgKeyframe(value, start_percent, guarantee_steps, cfg_extras or ())
    return guidance.with_cfg((keyframe,), prev_custom_cfg or ())


def _many_keyframes(start_percent, end_percent, print_keyframes, values, prev_custom_cfg, cfg_extras):
    keyframes = guidance.keyframes_between(start_percent, end_percent, values, cfg_extras or ())
    if print_keyframes:
        guidance.log_keyframes(keyframes)
    return guidance.with_cfg(keyframes, prev_custom_cfg or ())


def _interpolated_keyframes(
    start_percent,
    end_percent,
    cfg_start,
    cfg_end,
    interpolation,
    intervals,
    print_keyframes,
    prev_custom_cfg=(),
    cfg_extras=(),
):
    values = interpolated(cfg_start, cfg_end, intervals, interpolation).tolist()
    return _many_keyframes(start_percent, end_percent, print_keyframes, values, prev_custom_cfg, cfg_extras)


def _keyframes_of_list(cfgs_float, start_percent, end_percent, print_keyframes, prev_custom_cfg=(), cfg_extras=()):
    values = [float(cfg) for cfg in (cfgs_float if isinstance(cfgs_float, (list, tuple)) else [cfgs_float])]
    return _many_keyframes(start_percent, end_percent, print_keyframes, values, prev_custom_cfg, cfg_extras)


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
    _cfg_node("ADE_CustomCFGSimple", "Custom CFG", "Custom CFG", "Another CFG.", _one_keyframe, [CFG, EXTRAS]),
    _cfg_node(
        "ADE_CustomCFG",
        "Custom CFG (Multival)",
        "Custom CFG [Multival]",
        "Another CFG, also for each frame or as a mask.",
        _one_keyframe,
        [CFG_MULTIVAL, EXTRAS],
    ),
    _cfg_node(
        "ADE_CustomCFGKeyframeSimple",
        "Custom CFG Keyframe",
        "Custom CFG Keyframe",
        "Another CFG from a place in the sampling schedule on.",
        _one_keyframe,
        [CFG, *SCHEDULED],
    ),
    _cfg_node(
        "ADE_CustomCFGKeyframe",
        "Custom CFG Keyframe (Multival)",
        "Custom CFG Keyframe [Multival]",
        "The same, also for each frame or as a mask.",
        _one_keyframe,
        [CFG_MULTIVAL, *SCHEDULED],
    ),
    _cfg_node(
        "ADE_CustomCFGKeyframeInterpolation",
        "Custom CFG Keyframes (Interpolated)",
        "Custom CFG Keyframes Interp.",
        "CFG that goes from one value to another.",
        _interpolated_keyframes,
        [
            START,
            END,
            io.Float.Input("cfg_start", default=8.0, min=0.0, max=100.0, step=0.1),
            io.Float.Input("cfg_end", default=8.0, min=0.0, max=100.0, step=0.1),
            io.Combo.Input("interpolation", options=list(METHODS)),
            io.Int.Input("intervals", default=50, min=2, max=100, step=1, tooltip="How many values between them."),
            PRINT,
            PREV_CFG,
            EXTRAS,
        ],
    ),
    _cfg_node(
        "ADE_CustomCFGKeyframeFromList",
        "Custom CFG Keyframes From List",
        "Custom CFG Keyframes From List",
        "CFG values one after the other, evenly over the sampling schedule.",
        _keyframes_of_list,
        [
            io.Float.Input(
                "cfgs_float", default=-1, min=-1, step=0.001, force_input=True, tooltip="A list of numbers."
            ),
            START,
            END,
            PRINT,
            PREV_CFG,
            EXTRAS,
        ],
    ),
]


def _extra_node(node_id: str, kind: str, old_kind: str, description: str, extra: type, value: io.Input) -> type:
    def run(prev_extras=(), **values):
        return (*(prev_extras or ()), extra(values[value.id]))

    return _node(
        node_id,
        f"CFG Extras: {kind}",
        f"CFG Extras◆{old_kind}",
        description,
        run,
        [value, CfgExtras.Input("prev_extras", optional=True, tooltip="Extras that count besides this one.")],
        CfgExtras.Output("CFG_EXTRAS"),
        "cfg extras",
    )


PAG = "Perturbed attention guidance: more structure, at the cost of another pass of the UNet."
RESCALE = "Keeps high CFG from burning the picture."
EXTRA_NODES = [
    _extra_node(
        "ADE_CFGExtrasPAGSimple",
        "PAG",
        "PAG",
        PAG,
        PerturbedAttention,
        io.Float.Input("scale", default=3.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="How strongly. 0: off."),
    ),
    _extra_node(
        "ADE_CFGExtrasPAG",
        "PAG (Multival)",
        "PAG [Multival]",
        PAG,
        PerturbedAttention,
        sockets.Multival.Input("scale_multival"),
    ),
    _extra_node(
        "ADE_CFGExtrasRescaleCFGSimple",
        "RescaleCFG",
        "RescaleCFG",
        RESCALE,
        RescaleCfg,
        io.Float.Input("multiplier", default=0.7, min=0.0, max=1.0, step=0.01, tooltip="How much of it. 0: off."),
    ),
    _extra_node(
        "ADE_CFGExtrasRescaleCFG",
        "RescaleCFG (Multival)",
        "RescaleCFG [Multival]",
        RESCALE,
        RescaleCfg,
        sockets.Multival.Input("mult_multival"),
    ),
]


def _on_model(kind: str, put_on, extra: type, name: str, description: str, input_name: str) -> type:
    """The same for all of a MODEL's runs, with or without motion models."""

    def run(model, **values):
        model = model.clone()
        put_on(model)(extra(values[input_name]))
        return model

    return node(
        run,
        [io.Model.Input("model"), sockets.Multival.Input(input_name)],
        [io.Model.Output("MODEL")],
        node_id=f"ADE_{kind}Multival",
        display_name=name,
        category=f"{CATEGORY}/cfg extras",
        description=description,
    )


MODEL_NODES = [
    _on_model(
        "PerturbedAttentionGuidance",
        lambda model: model.set_model_sampler_post_cfg_function,
        PerturbedAttention,
        "Perturbed Attention Guidance (Multival)",
        PAG,
        "scale_multival",
    ),
    _on_model(
        "RescaleCFG",
        lambda model: model.set_model_sampler_cfg_function,
        RescaleCfg,
        "RescaleCFG (Multival)",
        RESCALE,
        "mult_multival",
    ),
]

NODES = [*CFG_NODES, *EXTRA_NODES, *MODEL_NODES]
