"""Sample settings: noise and its layers, iterations and FreeInit, ancestral noise."""

from comfy_api.latest import io

from ...sampling.noise.ancestral import ANCESTRAL_TYPES, AncestralOptions
from ...sampling.noise.free_init import FILTERS
from ...sampling.noise.initial import GENERATORS, NOISE_TYPES, USE_EXISTING, NoiseLayer, NoiseSettings, Source
from ...sampling.noise.iterations import FREEINIT_TYPES, FreeInit, Iterations
from ...sampling.sample_settings import SampleSettings
from .. import sockets
from ..make import family

CATEGORY = "AnimateDiff/sample settings"
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
LARGEST_WEIGHT = 10.0
NoiseLayers = io.Custom("NOISE_LAYERS")
IterationOptions = io.Custom("ITERATION_OPTS")
AncestralSocket = io.Custom("ANCESTRAL_OPTS")
ImageInject = io.Custom("IMAGE_INJECT")


_node = family(CATEGORY)


def _batch_offset(name: str = "batch_offset", **options) -> io.Input:
    tooltip = "Skips so many frames of the noise."
    return io.Int.Input(name, default=0, min=0, max=sockets.LARGEST, tooltip=tooltip, **options)


def _seed_offset(name: str = "seed_offset", default: int = 0, **options) -> io.Input:
    tooltip = "Added to the seed."
    return io.Int.Input(name, default=default, min=-sockets.LARGEST, max=sockets.LARGEST, tooltip=tooltip, **options)


def _seed_override(tooltip: str) -> io.Input:
    return io.Int.Input(
        "seed_override", default=0, min=0, max=LARGEST_SEED, force_input=True, optional=True, tooltip=tooltip
    )


NOISE_TYPE = io.Combo.Input(
    "noise_type",
    options=list(NOISE_TYPES),
    tooltip="constant: one frame for all. repeated_context, FreeNoise: the first window's noise again, as it is or shuffled.",
)
SEED_LIST = "Takes the sampler's place. A list gives each frame its own seed."


def _whole(seed):
    """A seed, or a list of them, from whatever a value schedule delivers."""
    if seed is None:
        return None
    return [int(one) for one in seed] if isinstance(seed, (list, tuple)) else int(seed)


def _settings(
    batch_offset,
    noise_type,
    seed_gen,
    seed_offset,
    noise_layers=(),
    iteration_opts=None,
    seed_override=None,
    adapt_denoise_steps=False,
    custom_cfg=(),
    sigma_schedule=None,
    image_inject=None,
    ancestral_opts=None,
):
    if image_inject is not None:
        raise ValueError("Image injection is not built yet. Disconnect image_inject to go on.")
    source = Source(noise_type, seed_gen, batch_offset, seed_offset, _whole(seed_override))
    return SampleSettings(
        noise=NoiseSettings(source, noise_layers or ()),
        iterations=iteration_opts or Iterations(),
        custom_cfg=custom_cfg or (),
        sigma_schedule=sigma_schedule,
        ancestral=ancestral_opts,
    )


SETTINGS_NODE = _node(
    "ADE_AnimateDiffSamplingSettings",
    "Sample Settings",
    "Sample Settings",
    "How a clip is sampled: its noise, several passes, guidance, noise schedule.",
    _settings,
    [
        _batch_offset(),
        NOISE_TYPE,
        io.Combo.Input(
            "seed_gen",
            options=list(GENERATORS),
            tooltip="comfy: one generator for all frames. auto1111: one for each frame, so frames keep theirs in longer clips.",
        ),
        _seed_offset(),
        NoiseLayers.Input("noise_layers", optional=True),
        IterationOptions.Input("iteration_opts", optional=True),
        _seed_override(f"{SEED_LIST} One seed alone changes nothing but the noise layers."),
        io.Boolean.Input("adapt_denoise_steps", default=False, optional=True, tooltip="Has no effect."),
        sockets.CustomCfg.Input("custom_cfg", optional=True, tooltip="Takes the place of the sampler's CFG."),
        sockets.SigmaSchedule.Input("sigma_schedule", optional=True, tooltip="Takes the place of beta_schedule."),
        ImageInject.Input("image_inject", optional=True),
        AncestralSocket.Input("ancestral_opts", optional=True),
    ],
    sockets.SampleSettings.Output("settings"),
)


def _layer_node(node_id: str, kind: str, combination: str, description: str, weights: list[io.Input]) -> type:
    def run(
        batch_offset,
        noise_type,
        seed_gen_override,
        seed_offset,
        noise_weight=1.0,
        balance_multiplier=1.0,
        prev_noise_layers=(),
        mask_optional=None,
        seed_override=None,
    ):
        source = Source(noise_type, seed_gen_override, batch_offset, seed_offset, _whole(seed_override))
        layer = NoiseLayer(combination, source, noise_weight, balance_multiplier, mask_optional)
        # the layer nearest to the settings is laid on first
        return (layer, *(prev_noise_layers or ()))

    return _node(
        node_id,
        f"Noise Layer ({kind})",
        f"Noise Layer [{kind}]",
        description,
        run,
        [
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
        NoiseLayers.Output("NOISE_LAYERS"),
        "noise layers",
    )


def _weight(most: float) -> io.Input:
    return io.Float.Input(
        "noise_weight", default=0.5, min=0.0, max=most, step=0.001, tooltip="How much of the new noise there is."
    )


LAYER_NODES = [
    _layer_node("ADE_NoiseLayerAdd", "Add", "add", "Adds noise to the noise.", [_weight(LARGEST_WEIGHT)]),
    _layer_node(
        "ADE_NoiseLayerAddWeighted",
        "Add Weighted",
        "add weighted",
        "Adds noise and takes some of what was there away.",
        [
            _weight(LARGEST_WEIGHT),
            io.Float.Input(
                "balance_multiplier", default=1.0, min=0.0, step=0.001, tooltip="How much is taken away: weight x this."
            ),
        ],
    ),
    _layer_node(
        "ADE_NoiseLayerNormalizedSum",
        "Normalized Sum",
        "normalized sum",
        "Mixes noise with the noise; the mixture is as strong as either.",
        [_weight(1.0)],
    ),
    _layer_node("ADE_NoiseLayerReplace", "Replace", "replace", "Other noise, for all or where the mask says.", []),
]


def _iterations_inputs(default: int, seed_offset: int) -> tuple[io.Input, list[io.Input]]:
    count = io.Int.Input("iterations", default=default, min=1, tooltip="How many times the clip is sampled.")
    offsets = [
        _batch_offset("iter_batch_offset", optional=True),
        _seed_offset("iter_seed_offset", default=seed_offset, optional=True),
    ]
    return count, offsets


def _free_init(
    iterations,
    filter,
    d_s,
    d_t,
    n_butterworth,
    sigma_step,
    apply_to_1st_iter,
    init_type,
    iter_batch_offset=0,
    iter_seed_offset=1,
):
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
    folder = "iterations"
    count, offsets = _iterations_inputs(1, 0)
    free_count, free_offsets = _iterations_inputs(2, 1)
    return [
        _node(
            "ADE_IterationOptsDefault",
            "Iteration Options: Default",
            "Default Iteration Options",
            "Samples the clip several times, each time from the clip before.",
            lambda iterations, iter_batch_offset=0, iter_seed_offset=0: Iterations(
                iterations, iter_batch_offset, iter_seed_offset
            ),
            [count, *offsets],
            IterationOptions.Output("ITERATION_OPTS"),
            folder,
        ),
        _node(
            "ADE_IterationOptsFreeInit",
            "Iteration Options: FreeInit",
            "FreeInit Iteration Options",
            "Samples several times, each time from noise with the slow motion of the clip before: steadier clips.",
            _free_init,
            [
                free_count,
                io.Combo.Input("filter", options=list(FILTERS), tooltip="Which frequencies count as slow."),
                io.Float.Input(
                    "d_s", default=0.25, min=0.0, max=1.0, step=0.001, tooltip="Stop frequency in the picture."
                ),
                io.Float.Input("d_t", default=0.25, min=0.0, max=1.0, step=0.001, tooltip="Stop frequency in time."),
                io.Int.Input("n_butterworth", default=4, min=1, max=100, tooltip="Order of the butterworth filter."),
                io.Int.Input(
                    "sigma_step", default=999, min=1, max=999, tooltip="How far back to noise, of 1000 steps."
                ),
                io.Boolean.Input(
                    "apply_to_1st_iter", default=False, tooltip="For vid2vid: also from the input latents."
                ),
                io.Combo.Input(
                    "init_type", options=list(FREEINIT_TYPES), tooltip="DinkInit noises the clip otherwise."
                ),
                *free_offsets,
            ],
            IterationOptions.Output("ITERATION_OPTS"),
            folder,
        ),
    ]


ITERATION_NODES = _iteration_nodes()

ANCESTRAL_NODE = _node(
    "ADE_AncestralOptions",
    "Ancestral Options",
    "Ancestral Options",
    "The noise that ancestral samplers add at every step.",
    lambda noise_type, seed_offset, seed_override=None: AncestralOptions(
        noise_type, seed_offset, _whole(seed_override)
    ),
    [
        io.Combo.Input("noise_type", options=list(ANCESTRAL_TYPES), tooltip="constant: the same for all frames."),
        _seed_offset(),
        _seed_override("Takes the sampler's place."),
    ],
    AncestralSocket.Output("ANCESTRAL_OPTS"),
)

NODES = [SETTINGS_NODE, *LAYER_NODES, *ITERATION_NODES, ANCESTRAL_NODE]
