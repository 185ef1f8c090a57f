"""Sample settings: noise and its layers, iterations and FreeInit, ancestral noise."""

from functools import partial

import torch
from comfy_api.latest import io

from ...sampling.guidance.custom_cfg import CustomCfg
from ...sampling.image_injection.picture import InjectedPicture
from ...sampling.noise.ancestral import ANCESTRAL_TYPES, AncestralOptions
from ...sampling.noise.free_init import FILTERS
from ...sampling.noise.initial import GENERATORS, NOISE_TYPES, USE_EXISTING, NoiseLayer, NoiseSettings, Seed, Source
from ...sampling.noise.iterations import FREEINIT_TYPES, FreeInit, Iterations
from ...sampling.sample_settings import SampleSettings
from ...sampling.schedules.sigma_schedules import SigmaSchedule
from .. import sockets
from ..base import Node, node
from ..values import LARGEST_SEED, at_least, at_most

CATEGORY = "AnimateDiff/sample settings"
LARGEST_WEIGHT = 10.0
LAST_TIMESTEP = 999
NoiseLayers = sockets.Socket(
    "NOISE_LAYERS", "For noise_layers of Sample Settings, or prev_noise_layers of another layer."
)
IterationOptions = sockets.Socket("ITERATION_OPTS", "For iteration_opts of Sample Settings.")
AncestralSocket = sockets.Socket("ANCESTRAL_OPTS", "For ancestral_opts of Sample Settings.")
_node = partial(node, category=CATEGORY)


def _batch_offset(name: str = "batch_offset", **options) -> io.Input:
    tooltip = "Skips so many frames of the noise. 0: none."
    return io.Int.Input(name, default=0, min=0, max=sockets.LARGEST, tooltip=tooltip, **options)


def _seed_offset(name: str = "seed_offset", default: int = 0, **options) -> io.Input:
    tooltip = "Added to the seed. Another number gives other noise."
    return io.Int.Input(name, default=default, min=-sockets.LARGEST, max=sockets.LARGEST, tooltip=tooltip, **options)


def _seed_override(tooltip: str) -> io.Input:
    return sockets.IntOrMore("seed_override", min=0, max=LARGEST_SEED, force_input=True, optional=True, tooltip=tooltip)


NOISE_TYPE = io.Combo.Input(
    "noise_type",
    options=list(NOISE_TYPES),
    tooltip="constant: one frame for all. repeated_context, FreeNoise: the first window's noise again, as it is or shuffled.",
)
SEED_LIST = "Takes the sampler's place. A list gives each frame its own seed."


Numbers = float | list[float]


def _whole(seed: Numbers | None) -> Seed | None:
    """A seed, or a list of them, from whatever a value schedule delivers."""
    if seed is None:
        return None
    return [int(one) for one in seed] if isinstance(seed, list) else int(seed)


def _settings(
    batch_offset: int,
    noise_type: str,
    seed_gen: str,
    seed_offset: int,
    noise_layers: tuple[NoiseLayer, ...] = (),
    iteration_opts: Iterations | None = None,
    seed_override: Numbers | None = None,
    adapt_denoise_steps: bool = False,
    custom_cfg: CustomCfg = (),
    sigma_schedule: SigmaSchedule | None = None,
    image_inject: tuple[InjectedPicture, ...] = (),
    ancestral_opts: AncestralOptions | None = None,
) -> SampleSettings:
    source = Source(noise_type, seed_gen, batch_offset, seed_offset, _whole(seed_override))
    return SampleSettings(
        noise=NoiseSettings(source, noise_layers),
        iterations=iteration_opts or Iterations(),
        custom_cfg=custom_cfg,
        sigma_schedule=sigma_schedule,
        ancestral=ancestral_opts,
        pictures=image_inject,
    )


SETTINGS_NODE = _node(
    _settings,
    node_id="ADE_AnimateDiffSamplingSettings",
    display_name="Sample Settings",
    old_name="Sample Settings",
    description="How a clip is sampled: its noise, several passes, guidance, noise schedule.",
    inputs=[
        _batch_offset(),
        NOISE_TYPE,
        io.Combo.Input(
            "seed_gen",
            options=list(GENERATORS),
            tooltip="comfy: one generator for all frames. auto1111: one for each frame, so frames keep theirs in longer clips.",
        ),
        _seed_offset(),
        NoiseLayers.Input(
            "noise_layers", optional=True, tooltip="Noise that is laid over the noise the clip starts from."
        ),
        IterationOptions.Input(
            "iteration_opts", optional=True, tooltip="Samples the clip several times, as FreeInit does."
        ),
        _seed_override(f"{SEED_LIST} One seed alone changes nothing but the noise layers."),
        io.Boolean.Input("adapt_denoise_steps", default=False, optional=True, tooltip="Has no effect."),
        sockets.CustomCfg.Input("custom_cfg", optional=True, tooltip="Takes the place of the sampler's CFG."),
        sockets.SigmaSchedule.Input("sigma_schedule", optional=True, tooltip="Takes the place of beta_schedule."),
        sockets.ImageInject.Input(
            "image_inject", optional=True, tooltip="Pictures that are laid into the clip while it is sampled."
        ),
        AncestralSocket.Input(
            "ancestral_opts", optional=True, tooltip="The noise that ancestral samplers add at every step."
        ),
    ],
    outputs=[sockets.SampleSettings.Output("settings")],
)


def _layer_node(*, kind: str, combination: str, weights: list[io.Input], **fields) -> type[Node]:
    def run(
        batch_offset: int,
        noise_type: str,
        seed_gen_override: str,
        seed_offset: int,
        noise_weight: float = 1.0,
        balance_multiplier: float = 1.0,
        prev_noise_layers: tuple[NoiseLayer, ...] = (),
        mask_optional: torch.Tensor | None = None,
        seed_override: Numbers | None = None,
    ) -> tuple[NoiseLayer, ...]:
        source = Source(noise_type, seed_gen_override, batch_offset, seed_offset, _whole(seed_override))
        layer = NoiseLayer(combination, source, noise_weight, balance_multiplier, mask_optional)
        # the layer nearest to the settings is laid on first
        return (layer, *prev_noise_layers)

    return _node(
        run,
        display_name=f"Noise Layer ({kind})",
        old_name=f"Noise Layer [{kind}]",
        category=f"{CATEGORY}/noise layers",
        inputs=[
            _batch_offset(),
            NOISE_TYPE,
            io.Combo.Input(
                "seed_gen_override", options=[USE_EXISTING, *GENERATORS], tooltip="Other than the settings'."
            ),
            _seed_offset(),
            *weights,
            NoiseLayers.Input("prev_noise_layers", optional=True, tooltip="Layers that are laid on after this one."),
            io.Mask.Input("mask_optional", optional=True, tooltip="Where in the picture, one mask for each frame."),
            _seed_override(SEED_LIST),
        ],
        outputs=[NoiseLayers.Output("NOISE_LAYERS")],
        **fields,
    )


def _weight(most: float) -> io.Input:
    return io.Float.Input(
        "noise_weight",
        default=0.5,
        min=0.0,
        max=most,
        step=0.001,
        tooltip="How much of the new noise there is. 0: none.",
    )


LAYER_NODES = [
    _layer_node(
        node_id="ADE_NoiseLayerAdd",
        kind="Add",
        combination="add",
        description="Adds noise to the noise.",
        weights=[_weight(LARGEST_WEIGHT)],
    ),
    _layer_node(
        node_id="ADE_NoiseLayerAddWeighted",
        kind="Add Weighted",
        combination="add weighted",
        description="Adds noise and takes some of what was there away.",
        weights=[
            _weight(LARGEST_WEIGHT),
            io.Float.Input(
                "balance_multiplier",
                default=1.0,
                min=0.0,
                step=0.001,
                tooltip="How much is taken away: weight × this. 0: nothing.",
            ),
        ],
    ),
    _layer_node(
        node_id="ADE_NoiseLayerNormalizedSum",
        kind="Normalized Sum",
        combination="normalized sum",
        description="Mixes noise with the noise; the mixture is as strong as either.",
        weights=[_weight(1.0)],
    ),
    _layer_node(
        node_id="ADE_NoiseLayerReplace",
        kind="Replace",
        combination="replace",
        description="Other noise, for all or where the mask says.",
        weights=[],
    ),
]


def _iterations_inputs(default: int, seed_offset: int) -> tuple[io.Input, list[io.Input]]:
    count = io.Int.Input(
        "iterations",
        default=default,
        min=1,
        tooltip="How many times the clip is sampled. Time grows with it; 2 to 5 are usual.",
    )
    offsets = [
        _batch_offset("iter_batch_offset", optional=True),
        _seed_offset("iter_seed_offset", default=seed_offset, optional=True),
    ]
    return count, offsets


def _free_init(
    iterations: int,
    filter: str,
    d_s: float,
    d_t: float,
    n_butterworth: int,
    sigma_step: int,
    apply_to_1st_iter: bool,
    init_type: str,
    iter_batch_offset: int = 0,
    iter_seed_offset: int = 1,
) -> FreeInit:
    for name, frequency in {"d_s": d_s, "d_t": d_t}.items():
        at_least(name, frequency, 0)
    at_most("sigma_step", sigma_step, LAST_TIMESTEP, "checkpoints are trained on 1000 timesteps, counted from 0")
    return FreeInit(
        iterations,
        iter_batch_offset,
        iter_seed_offset,
        filter,
        d_s,
        d_t,
        n_butterworth,
        sigma_step,
        apply_to_1st_iter,
        init_type,
    )


def _iteration_nodes() -> list[type]:
    category = f"{CATEGORY}/iterations"
    count, offsets = _iterations_inputs(1, 0)
    free_count, free_offsets = _iterations_inputs(2, 1)
    return [
        _node(
            lambda iterations, iter_batch_offset=0, iter_seed_offset=0: Iterations(
                iterations, iter_batch_offset, iter_seed_offset
            ),
            node_id="ADE_IterationOptsDefault",
            display_name="Iteration Options: Default",
            old_name="Default Iteration Options",
            category=category,
            description="Samples the clip several times, each time from the clip before.",
            inputs=[count, *offsets],
            outputs=[IterationOptions.Output("ITERATION_OPTS")],
        ),
        _node(
            _free_init,
            node_id="ADE_IterationOptsFreeInit",
            display_name="Iteration Options: FreeInit",
            old_name="FreeInit Iteration Options",
            category=category,
            description="Samples several times, each time from noise with the slow motion of the clip before: steadier clips.",
            inputs=[
                free_count,
                io.Combo.Input("filter", options=list(FILTERS), tooltip="Which frequencies count as slow."),
                io.Float.Input(
                    "d_s",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="What counts as slow across the picture: up to this part of the highest frequency. 0.25 is usual.",
                ),
                io.Float.Input(
                    "d_t",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="What counts as slow in time: up to this part of the highest frequency. 0.25 is usual.",
                ),
                io.Int.Input(
                    "n_butterworth",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="How steep the butterworth filter is: its order. 4 is usual.",
                ),
                io.Int.Input(
                    "sigma_step",
                    default=LAST_TIMESTEP,
                    min=1,
                    max=LAST_TIMESTEP,
                    tooltip="How much noise the clip before gets, as a timestep of 1000: 999 is the most; less keeps more of the clip.",
                ),
                io.Boolean.Input(
                    "apply_to_1st_iter", default=False, tooltip="For vid2vid: also from the input latents."
                ),
                io.Combo.Input(
                    "init_type",
                    options=list(FREEINIT_TYPES),
                    tooltip="How the clip before gets its noise. Both FreeInit do the same; DinkInit_v1 weighs clip and noise otherwise.",
                ),
                *free_offsets,
            ],
            outputs=[IterationOptions.Output("ITERATION_OPTS")],
        ),
    ]


ITERATION_NODES = _iteration_nodes()

ANCESTRAL_NODE = _node(
    lambda noise_type, seed_offset, seed_override=None: AncestralOptions(
        noise_type, seed_offset, _whole(seed_override)
    ),
    node_id="ADE_AncestralOptions",
    display_name="Ancestral Options",
    old_name="Ancestral Options",
    description="The noise that ancestral samplers add at every step.",
    inputs=[
        io.Combo.Input("noise_type", options=list(ANCESTRAL_TYPES), tooltip="constant: the same for all frames."),
        _seed_offset(),
        _seed_override("Takes the sampler's place."),
    ],
    outputs=[AncestralSocket.Output("ANCESTRAL_OPTS")],
)

NODES = [SETTINGS_NODE, *LAYER_NODES, *ITERATION_NODES, ANCESTRAL_NODE]
