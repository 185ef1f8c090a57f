"""Noise schedules: the tables of the published options, and their safety from the host's dynamic VRAM."""

import pytest
import torch


@pytest.fixture
def schedules(pack):
    return pack.submodule("sampling.schedules.beta_schedules")


@pytest.fixture
def model_type(host_path):
    from comfy.model_base import ModelType

    return ModelType


# option, entries, lowest sigma, the one at half the table, highest (as seen in the incumbent; docs/behaviour.md)
TABLES = [
    ("sqrt_linear (AnimateDiff)", 1000, 0.02916716, 2.28473282, 25.14611435),
    ("linear (AnimateDiff-SDXL)", 1000, 0.02916716, 2.21820664, 65.92865753),
    ("linear (HotshotXL/default)", 1000, 0.02916716, 1.61827886, 14.61464119),
    ("avg(sqrt_linear,linear)", 1000, 0.02916716, 1.95150590, 19.88037872),
    ("lcm", 50, 0.13445067, 1.72479403, 14.61464119),
    ("lcm[100_ots]", 100, 0.09356759, 1.66775477, 14.61464119),
    ("lcm >> sqrt_linear", 50, 0.13897465, 2.45889091, 25.14611435),
    ("lcm avg(sqrt_linear,linear)", 50, 0.13671267, 2.09184241, 19.88037872),
    ("sqrt", 1000, 0.17329249, 3.85e6, 3.06e17),
    ("cosine", 1000, 0.00642541, 1.01555049, 20291.17),
    ("squaredcos_cap_v2", 1000, 0.00642541, 1.01555049, 20291.17),
]


def test_every_option_of_the_nodes_is_tested(schedules):
    assert {name for name, *_ in TABLES} == schedules.SCHEDULES.keys()


@pytest.mark.parametrize(("name", "entries", "lowest", "middle", "highest"), TABLES)
def test_tables(schedules, model_type, name, entries, lowest, middle, highest):
    sampling = schedules.model_sampling(name, model_type.EPS)
    assert len(sampling.sigmas) == entries
    found = [float(sampling.sigma_min), float(sampling.sigmas[entries // 2]), float(sampling.sigma_max)]
    rough = 2e-3 if name == "sqrt" else 1e-6
    assert found == pytest.approx([lowest, middle, highest], rel=rough)


def betas(name: str) -> torch.Tensor:
    """Of 1000 timesteps, under the host's names of the schedules, from their papers."""
    first, last, n = 0.00085, 0.012, 1000
    t = torch.arange(n + 1, dtype=torch.float64) / n
    signal = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    cosine = (1 - signal[1:] / signal[:-1]).clamp(0, 0.999)  # Nichol and Dhariwal 2021, eq. 17
    return {
        "linear": torch.linspace(first**0.5, last**0.5, n, dtype=torch.float64) ** 2,  # Rombach et al. 2022
        "sqrt_linear": torch.linspace(first, last, n, dtype=torch.float64),  # Ho et al. 2020
        "sqrt": torch.linspace(first, last, n, dtype=torch.float64) ** 0.5,
        "cosine": cosine,
        "squaredcos_cap_v2": cosine,
    }[name]


@pytest.mark.parametrize("name", ["linear", "sqrt_linear", "sqrt", "cosine", "squaredcos_cap_v2"])
def test_the_raw_schedules_work_for_lcm_too(pack, name):
    """For squaredcos_cap_v2 the host's own function gives what its constructor cannot take."""
    sigmas = pack.submodule("host.model_sampling").lcm_schedule(name, 50).sigmas
    alphas = (1 - betas(name)).cumprod(0)
    expected = ((1 - alphas) / alphas).sqrt()[19::20]
    torch.testing.assert_close(sigmas, expected.float(), rtol=1e-3, atol=0)


def test_prediction_type_follows_the_checkpoint_but_lcm_predicts_eps(schedules, model_type, host_path):
    import comfy.model_sampling
    from comfy_extras.nodes_model_advanced import LCM

    v = schedules.model_sampling("sqrt_linear (AnimateDiff)", model_type.V_PREDICTION)
    assert isinstance(v, comfy.model_sampling.V_PREDICTION)
    lcm = schedules.model_sampling("lcm", model_type.V_PREDICTION)
    assert isinstance(lcm, LCM)
    assert not isinstance(lcm, comfy.model_sampling.V_PREDICTION)


def test_a_schedule_that_is_not_offered_is_taken_by_its_name(schedules, model_type):
    assert len(schedules.model_sampling("lcm[25_ots]", model_type.EPS).sigmas) == 25


def test_checkpoints_without_beta_schedules_are_refused_in_words(schedules, model_type):
    with pytest.raises(ValueError, match="Choose beta_schedule 'use existing'"):
        schedules.model_sampling("sqrt_linear (AnimateDiff)", model_type.FLOW)


@pytest.mark.parametrize(("name", "steps", "timestep"), [("lcm", 2, 519), ("lcm", 4, 519), ("lcm[100_ots]", 2, 509)])
def test_a_step_half_way_between_two_entries_is_the_same_on_every_machine(
    schedules, model_type, host_path, name, steps, timestep
):
    import comfy.samplers

    sampling = schedules.model_sampling(name, model_type.EPS)
    sigmas = comfy.samplers.calculate_sigmas(sampling, "sgm_uniform", steps)
    assert timestep in sampling.timestep(sigmas[:-1]).tolist()


def test_dynamic_vram_can_neither_save_nor_overwrite_our_tables(schedules, model_type, host_path):
    """It saves buffers by path and writes them back by path, whatever object is there by then (ComfyUI #16490)."""
    import comfy.utils

    model = torch.nn.Module()
    model.model_sampling = schedules.model_sampling("sqrt_linear (AnimateDiff)", model_type.EPS)
    sigmas = model.model_sampling.sigmas.clone()
    assert dict(model.named_buffers()) == {}
    write = getattr(comfy.utils, "set_attr_buffer", comfy.utils.set_attr)
    if write is comfy.utils.set_attr:
        pytest.skip("this release of the host has no dynamic VRAM")
    write(model, "model_sampling.sigmas", torch.zeros(1000))
    write(model, "model_sampling.log_sigmas", torch.zeros(1000))
    assert torch.equal(model.model_sampling.sigmas, sigmas)
    assert (
        model.to(torch.float64).model_sampling.sigmas.dtype == torch.float64
    )  # it is moved like a buffer all the same


def test_our_tables_are_put_where_the_model_computes_and_others_are_left_alone(pack, schedules, model_type):
    keep_on = pack.submodule("host.model_sampling").keep_on
    ours = schedules.model_sampling("lcm", model_type.EPS)
    keep_on(ours, torch.device("meta"))  # stands in for a GPU
    assert ours.sigmas.device.type == ours.log_sigmas.device.type == "meta"
    from comfy.model_sampling import ModelSamplingDiscrete

    theirs = ModelSamplingDiscrete()
    keep_on(theirs, torch.device("meta"))
    assert theirs.sigmas.device.type == "cpu"
