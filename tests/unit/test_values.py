"""Numbers that cannot be meant, at every input of every node: refused before sampling, by the name of the widget."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

NOT_FINITE = (math.nan, math.inf, -math.inf, 1e39, 10**400)


@pytest.fixture(scope="session")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}


@pytest.fixture(scope="session")
def arrives(pack):
    """`arrives(node, entry, value)`: hand ``value`` to one input of a node, as a link does."""
    filled = pack.submodule("nodes.base").filled

    def arrive(node: type, entry, value) -> None:
        schema = node.GET_SCHEMA()
        alone = SimpleNamespace(inputs=[entry], is_input_list=schema.is_input_list, display_name=schema.display_name)
        filled(alone, {entry.id: [value] if schema.is_input_list else value}, {})

    return arrive


def entries(nodes, *types: str):
    return [
        (node, entry) for node in nodes.values() for entry in node.GET_SCHEMA().inputs if entry.get_io_type() in types
    ]


def test_what_is_not_finite_is_refused_at_every_number(nodes, arrives):
    numbers = entries(nodes, "FLOAT", "INT")
    assert len(numbers) > 200
    for node, entry in numbers:
        for value in (*NOT_FINITE, "nan", "inf", "1e999", "twelve"):
            with pytest.raises(
                ValueError, match=f"The input {entry.id} of .* (finite number|hundreds of digits|got a text)"
            ):
                arrives(node, entry, value)


def test_and_in_every_list_of_numbers(nodes, arrives, pack):
    sockets = pack.submodule("nodes.sockets")
    takes_lists = [
        (node, entry)
        for node, entry in entries(nodes, "FLOAT", "INT", "FLOATS")
        if entry.get_io_type() == "FLOATS" or isinstance(entry, (sockets.FloatOrMore, sockets.IntOrMore))
    ]
    names = {entry.id for _, entry in takes_lists}
    assert {"float_val", "min_float_val", "max_float_val", "cfgs_float", "seed_override", "FLOAT", "floats"} <= names
    for node, entry in takes_lists:
        arrives(node, entry, [1, 2.5])
        for value in NOT_FINITE:
            with pytest.raises(ValueError, match=f"The input {entry.id} of .* item 1 .counted from 0. is .*finite"):
                arrives(node, entry, [1.0, value])
        with pytest.raises(ValueError, match=f"The input {entry.id} of .* got a list of 1 in place of"):
            arrives(node, entry, [None])
        with pytest.raises(ValueError, match="a list of 1000001 numbers, but can have at most 1000000"):
            arrives(node, entry, [1.0] * 1_000_001)


def test_a_list_is_refused_where_one_number_belongs(nodes, arrives, pack):
    sockets = pack.submodule("nodes.sockets")
    one = [
        (node, entry)
        for node, entry in entries(nodes, "FLOAT", "INT")
        if not isinstance(entry, (sockets.FloatOrMore, sockets.IntOrMore))
    ]
    assert len(one) > 200
    for node, entry in one:
        with pytest.raises(ValueError, match=f"The input {entry.id} of .* got a list of 16 in place of a"):
            arrives(node, entry, [1] * 16)


def test_masks_and_strengths_hold_finite_numbers(nodes, arrives):
    found = entries(nodes, "MASK", "MULTIVAL", "SIGMAS")
    assert len(found) > 20
    for node, entry in found:
        shape = (4,) if entry.get_io_type() == "SIGMAS" else (1, 2, 2)
        arrives(node, entry, torch.ones(shape))
        for value in (math.nan, math.inf):
            with pytest.raises(ValueError, match=f"The input {entry.id} of .* not finite"):
                arrives(node, entry, torch.full(shape, value))
        if entry.get_io_type() == "MULTIVAL":
            with pytest.raises(ValueError, match="is nan, but has to be a finite number"):
                arrives(node, entry, math.nan)


def test_counts_and_lengths_begin_at_0_or_1(nodes, arrives):
    """In particular: strides, lengths, iterations, training steps, batch and rank above 0."""
    refused = set()
    for node, entry in entries(nodes, "INT"):
        if entry.min is None or entry.min < 0 or "seed" in entry.id:
            continue
        least = min(entry.min, 1)
        arrives(node, entry, least)
        for value in (least - 1, -16, -(10**20)):
            with pytest.raises(ValueError, match=f"The input {entry.id} of .* but has to be at least {least}. Connect"):
                arrives(node, entry, value)
        if least == 1:
            refused.add(entry.id)
    assert {"context_length", "context_stride", "view_length", "view_stride", "iterations"} <= refused
    assert {"steps", "batch", "rank", "frames", "batch_size", "width", "sigma_step", "intervals"} <= refused


MEANT = [
    ("ADE_StandardStaticContextOptions", "context_length", 200),
    ("ADE_AnimateDiffLoaderV1Advanced", "context_length", 0),  # no windows
    ("ADE_MultivalDynamic", "float_val", -1.5),
    ("ADE_MultivalDynamic", "float_val", [1, 0.5]),
    ("ADE_AnimateDiffLoRALoader", "strength", -2),
    ("ADE_AnimateDiffLoRALoader", "strength", 25.0),
    ("ADE_CustomCFGSimple", "cfg", -3.0),
    ("ADE_CustomCFGSimple", "cfg", 250),
    ("ADE_CustomCFGKeyframeInterpolation", "intervals", 1),
    ("ADE_AnimateDiffSamplingSettings", "seed_override", -1),
    ("ADE_AnimateDiffSamplingSettings", "seed_override", [1, -2]),
    ("AnimateDiffTrainMotionLoRA", "seed", -7),
    ("ADE_EmptyLatentImageLarge", "width", 8),
    ("ADE_AnimateDiffCombine", "frame_rate", 0.5),
]


@pytest.mark.parametrize(("node_id", "name", "value"), MEANT)
def test_what_lies_outside_a_widget_and_means_something_goes_through(nodes, arrives, node_id, name, value):
    (entry,) = (entry for entry in nodes[node_id].GET_SCHEMA().inputs if entry.id == name)
    arrives(nodes[node_id], entry, value)


@pytest.fixture
def run(nodes, pack):
    """`run(node_id, name=value, …)`: a node with its widgets' defaults, but for those named."""
    schedules = pack.submodule("sampling.schedules.sigma_schedules")
    stand_ins = {
        "CAMERACTRL_POSES": pack.submodule("motion_models.adapters.camera").moving([("Pan Up", 1.0)], 1.0, 4),
        "SIGMA_SCHEDULE": schedules.from_beta_schedule("linear (AnimateDiff-SDXL)"),
    }

    def default(entry):
        kind = entry.get_io_type()
        if kind in stand_ins:
            return stand_ins[kind]
        if kind == "COMBO":
            return entry.options[0]
        return 1.0 if entry.force_input else entry.default

    def execute(node_id: str, **inputs):
        required = [entry for entry in nodes[node_id].GET_SCHEMA().inputs if not entry.optional]
        return nodes[node_id].execute(**{entry.id: default(entry) for entry in required} | inputs).result

    return execute


RAW, MEAN, SIGMAS = "ADE_RawSigmaSchedule", "ADE_SigmaScheduleWeightedAverage", "ADE_SigmaScheduleToSigmas"
CFG, CFGS = "ADE_CustomCFGKeyframeInterpolation", "ADE_CustomCFGKeyframeFromList"
ENDS = "linear_start is .* and linear_end .* Set linear_start below linear_end"
REFUSED = [
    (RAW, {"linear_start": 0.012}, ENDS),
    (RAW, {"linear_start": 0.02, "linear_end": 0.001}, ENDS),
    (RAW, {"linear_start": 0.0, "linear_end": 0.0}, ENDS),
    (RAW, {"linear_start": 0.5, "linear_end": 0.5, "sampling": "lcm"}, ENDS),
    (RAW, {"linear_start": 0.5, "linear_end": 1.0}, "noise levels .* inf; .* linear_start .* linear_end"),
    (RAW, {"linear_start": 0.0}, "noise levels of this sigma schedule go from 0 to"),
    (RAW, {"linear_start": 0.01, "linear_end": 0.012, "raw_beta_schedule": "sqrt"}, "go from .* to .*e.2"),
    (RAW, {"sampling": "lcm", "lcm_original_timesteps": 2000}, "lcm_original_timesteps is 2000"),
    (MEAN, {"weight_A": -1e30}, "noise levels .* keep weights between 0 and 1"),
    (SIGMAS, {"steps": 10**9}, "1000000000 steps .* at most 100000 .* Lower steps"),
    (SIGMAS, {"denoise": 1e-9}, "20 steps at a denoise of 1e-09 .* raise denoise"),
    (CFG, {"intervals": 10**9}, r"intervals is 1e\+09, but can be at most 10000"),
    (CFGS, {"cfgs_float": [1.0] * 10_001}, "The number of cfgs_float is 10001, but can be at most 10000"),
    ("ADE_ReplaceCameraParameters", {"fx": 0}, "fx is 0, but has to be above 0"),
    ("ADE_ReplaceCameraParameters", {"fy": -0.5}, "fy is -0.5, but has to be above 0"),
    ("ADE_CameraPoseBasic", {"frame_length": 0}, "frame_length is 0, but has to be at least 1"),
    ("ADE_CameraPoseCombo", {"frame_length": -5}, "frame_length is -5, but has to be at least 1"),
    ("ADE_CameraPoseAdvanced", {"frame_length": 10**6}, "1000000 camera poses, but a clip has at most 262144 frames"),
    ("ADE_EmptyLatentImageLarge", {"batch_size": 10**9}, "1000000000 latents .* at most 64 GiB .* Lower batch_size"),
    ("ADE_EmptyLatentImageLarge", {"width": 16384, "height": 16384, "batch_size": 262144}, "at most 64 GiB"),
]


@pytest.mark.parametrize(("node_id", "inputs", "words"), REFUSED)
def test_values_that_spoil_the_picture_or_never_end_are_refused(run, node_id, inputs, words):
    with pytest.raises(ValueError, match=words):
        run(node_id, **inputs)


def test_the_defaults_of_these_nodes_are_not(run):
    for node_id in {node_id for node_id, _, _ in REFUSED}:
        assert run(node_id) is not None


def test_every_beta_schedule_makes_noise_levels_to_compute_with(pack):
    schedules = pack.submodule("sampling.schedules.sigma_schedules")
    for name in pack.submodule("sampling.schedules.beta_schedules").SCHEDULES:
        schedules.from_beta_schedule(name)
    for schedule in schedules.RAW_SCHEDULES:
        for sampling in schedules.SAMPLINGS:
            for zsnr in (False, True):
                schedules.raw(schedule, 0.00085, 0.012, sampling, 50, zsnr)
    # curves of their own, which the ends do not change
    assert len(schedules.raw("cosine", 0.5, 0.5, "eps", 50, False).sigmas) == 1000


def test_a_scale_of_latents_of_0_is_refused_before_anything_is_loaded(nodes):
    load = nodes["CheckpointLoaderSimpleWithNoiseSelect"].run
    for scale in (0.0, -0.18215):
        with pytest.raises(ValueError, match=f"scale_factor is {scale:g}, but has to be above 0"):
            load("none.safetensors", "use existing", use_custom_scale_factor=True, scale_factor=scale)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("frames", 1, "frames is 1, but has to be at least 2"),
        ("alpha", 0.0, "alpha is 0, but has to be above 0"),
        ("learning_rate", 0.0, "learning_rate is 0, but has to be above 0"),
        ("learning_rate", -1e-4, "learning_rate is -0.0001, but has to be above 0"),
        ("weight_decay", -1.0, "weight_decay is -1, but has to be at least 0"),
    ],
)
def test_training_that_learns_nothing_is_refused(nodes, name, value, words):
    with pytest.raises(ValueError, match=words):
        nodes["AnimateDiffTrainMotionLoRA"].single({name: [value]})


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.8, 0.2), (0.0, 0.0), (1.0, 1.0)])
def test_a_motion_model_that_never_acts_is_said_in_the_log(nodes, new_motion, layouts, caplog, start, end):
    motion_model = new_motion(layouts["unusual"], "mm_v2")
    apply = nodes["ADE_ApplyAnimateDiffModel"].run
    (applied,) = apply(motion_model, start_percent=start, end_percent=end)
    assert (applied.settings.start_percent, applied.settings.end_percent) == (start, end)
    assert f"start_percent is {start:g} and end_percent {end:g}, so the motion model 'mm_v2' never acts" in caplog.text
    caplog.clear()
    apply(motion_model, start_percent=0.0, end_percent=1.0)
    assert not caplog.text


def test_seeds_wrap_around(pack):
    """The largest seed and any offset: as everywhere, seeds of 64 bits."""
    initial = pack.submodule("sampling.noise.initial")
    latents, most = torch.zeros(2, 4, 2, 2), 2**64 - 1
    for generator in ("comfy", "auto1111"):
        source = initial.Source(generator=generator, seed_offset=1)
        made = initial.NoiseSettings(source).noise(most, latents, latents, None)
        assert made.equal(initial.Source(generator=generator).draw(0, latents, None))
    options = pack.submodule("sampling.noise.ancestral").AncestralOptions(seed_offset=2**53)
    noise = options._noise_sampler(most + options.seed_offset, latents.shape)
    assert noise(torch.tensor(1.0), torch.tensor(0.5)).shape == latents.shape


def test_the_functions_of_bounds_say_what_to_do(pack):
    values = pack.submodule("nodes.values")
    for check, bad, words in (
        (lambda v: values.at_least("a", v, 1), (0, math.nan), "a is .*, but has to be at least 1. Raise it."),
        (lambda v: values.above("a", v, 0), (0, -1, math.nan), "a is .*, but has to be above 0. Raise it."),
        (lambda v: values.at_most("a", v, 9, "b"), (10, math.nan), "a is .*, but can be at most 9: b. Lower it."),
    ):
        check(5)
        for value in bad:
            with pytest.raises(ValueError, match=words):
                check(value)
