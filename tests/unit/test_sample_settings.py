"""Noise, FreeInit, sigma schedules and custom CFG keyframes against the numbers of docs/behaviour.md."""

import math

import pytest
import torch

LATENTS = torch.zeros(3, 4, 2, 2)


@pytest.fixture
def noise(pack):
    return pack.submodule("sampling.noise.initial")


@pytest.mark.parametrize(
    ("generator", "kind", "expected"),
    [
        ("comfy", "default", (2.779863, -0.261668, 0.816792)),
        ("comfy", "constant", (2.779863, 2.779863, 2.779863)),
        ("auto1111", "default", (-1.211305, -0.820135, -1.189202)),
    ],
)
def test_generators(noise, generator, kind, expected):
    drawn = noise.Source(kind, generator, batch_offset=1).draw(5, LATENTS, None)
    assert drawn[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_one_seed_per_frame(noise):
    settings = noise.NoiseSettings(noise.Source(seed_offset=2, seed_override=[10, 20, 30]))
    made = settings.noise(7, LATENTS, torch.ones_like(LATENTS), None)
    assert made[:, 0, 0, 0].tolist() == pytest.approx((-0.132013, 0.392015, -1.741563), abs=1e-6)
    with pytest.raises(noise.NoiseError, match="2 seeds, but the clip has 3 frames"):
        noise.NoiseSettings(noise.Source(seed_override=[1, 2])).noise(7, LATENTS, LATENTS, None)


def test_without_a_difference_the_samplers_noise_stays(noise):
    given = torch.ones_like(LATENTS)
    assert noise.NoiseSettings().noise(1, LATENTS, given, None) is given
    assert noise.NoiseSettings(noise.Source(seed_override=9)).noise(1, LATENTS, given, None) is given
    assert not noise.NoiseSettings(noise.Source(seed_offset=1)).noise(1, LATENTS, given, None).equal(given)
    assert not noise.NoiseSettings().noise(1, LATENTS, given, None, force=True).equal(given)


@pytest.mark.parametrize(
    ("frames", "seed", "expected"),
    [
        (32, 42, [*range(16), 6, 8, 1, 7, 0, 2, 10, 11, 4, 3, 5, 9, 14, 15, 12, 13]),
        (40, 0, [*range(16), 8, 0, 5, 9, 7, 4, 2, 10, 3, 1, 11, 6, 14, 15, 10, 8, 13, 4, 5, 12, 0, 9, 7, 2]),
        (20, 0, [*range(16), 0, 1, 3, 2]),
    ],
)
def test_freenoise_order(noise, frames, seed, expected):
    assert noise.freenoise_order(frames, noise.NoiseWindow(16, 4), seed) == expected


def test_freenoise_refuses_an_overlap_as_long_as_the_windows(noise):
    assert noise.freenoise_order(16, noise.NoiseWindow(16, 16), 0) == list(range(16))
    with pytest.raises(noise.NoiseError, match="the overlap is 16 and they are 16 frames long"):
        noise.freenoise_order(32, noise.NoiseWindow(16, 16), 0)


def test_repeated_context(noise):
    latents = torch.zeros(40, 4, 2, 2)
    plain = noise.Source().draw(3, latents, None)
    repeated = noise.Source("repeated_context").draw(3, latents, noise.NoiseWindow(16, 4))
    assert repeated.equal(plain[[*range(16), *range(16), *range(8)]])
    assert noise.Source("repeated_context").draw(3, latents, None).equal(plain)


@pytest.mark.parametrize(
    ("combination", "expected"),
    [("replace", 3.0), ("add", 3.5), ("add weighted", 2.5), ("normalized sum", 3.5355339)],
)
def test_layers(noise, combination, expected):
    layer = noise.NoiseLayer(combination, noise.Source(), weight=0.5)
    old, new = torch.full((2, 4, 4, 4), 2.0), torch.full((2, 4, 4, 4), 3.0)
    assert layer.over(old, new)[0, 0, 0, 0].item() == pytest.approx(expected)
    half = torch.tensor([[[1.0, 0.0]]])
    masked = noise.NoiseLayer(combination, noise.Source(), weight=0.5, mask=half).over(old, new)
    assert masked[0, 0, 0, [0, 3]].tolist() == pytest.approx([expected, 2.0])


def test_a_layer_draws_from_its_own_seed(noise):
    layer = noise.NoiseLayer("replace", noise.Source(generator="use existing", seed_override=11, seed_offset=1))
    made = noise.NoiseSettings(noise.Source(generator="auto1111", seed_override=5), (layer,)).noise(
        1, LATENTS, LATENTS, None
    )
    assert made.equal(noise.Source(generator="auto1111").draw(12, LATENTS, None))


@pytest.mark.parametrize(
    ("name", "line", "total"),
    [
        ("gaussian", (0.00033546, 0.13533528, 1, 0.13533528), 2.05325),
        ("butterworth", (1.52586e-5, 0.00389105, 1, 0.00389105), 1.026825),
        ("ideal", (0, 1, 1, 1), 19),
        ("box", (0, 0, 0, 0), 0),
    ],
)
def test_freeinit_filters(pack, name, line, total):
    made = pack.submodule("sampling.noise.free_init").low_pass_filter(name, (4, 1, 4, 4), 0.25, 0.25, 4)
    for along in (made[:, 0, 2, 2], made[2, 0, :, 2], made[2, 0, 2]):
        assert along.tolist() == pytest.approx(line, rel=1e-4)
    assert made.sum().item() == pytest.approx(total, rel=1e-4)
    assert not pack.submodule("sampling.noise.free_init").low_pass_filter(name, (4, 1, 4, 4), 0.25, 0.0, 4).any()


def test_freeinit_mixes_frequencies(pack):
    free_init = pack.submodule("sampling.noise.free_init")
    low, high = torch.randn(2, 8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    everything, nothing = torch.ones(8, 1, 6, 6), torch.zeros(8, 1, 6, 6)
    torch.testing.assert_close(free_init.mixed_frequencies(low, high, everything), low)
    torch.testing.assert_close(free_init.mixed_frequencies(low, high, nothing), high)
    passes_mean_only = nothing.clone()
    passes_mean_only[4, 0, 3, 3] = 1
    mixed = free_init.mixed_frequencies(low, high, passes_mean_only)
    torch.testing.assert_close(mixed.mean((0, 2, 3)), low.mean((0, 2, 3)))


@pytest.fixture
def schedules(pack):
    return pack.submodule("sampling.schedules.sigma_schedules")


def test_sigma_schedules_mix(schedules):
    first, second = (
        schedules.from_beta_schedule(name) for name in ("sqrt_linear (AnimateDiff)", "linear (AnimateDiff-SDXL)")
    )
    mean = schedules.weighted_mean(first, second, 0.25)
    torch.testing.assert_close(mean.sigmas, first.sigmas * 0.25 + second.sigmas * 0.75)
    ramp = schedules.interpolated_mean(first, second, 1.0, 0.0, "linear")
    assert ramp.sigmas[-1] == first.sigmas[-1]
    assert ramp.sigmas[0] == second.sigmas[0]
    joined = schedules.split(first, second, 0.3)
    assert joined.sigmas[:700].equal(second.sigmas[:700])
    assert joined.sigmas[700:].equal(first.sigmas[700:])
    lcm = schedules.from_beta_schedule("lcm")
    with pytest.raises(schedules.SigmaScheduleError, match="1000 and 50 noise levels"):
        schedules.weighted_mean(first, lcm, 0.5)


def test_zero_terminal_snr(schedules):
    made = schedules.raw("linear", 0.00085, 0.012, "v_prediction", 50, zsnr=True)
    assert made.sigmas[-1].item() == pytest.approx(math.sqrt(1 / 4.8973451890853435e-08 - 1), rel=1e-4)
    assert made.sigmas[0].item() == pytest.approx(0.02916716, rel=1e-4)


@pytest.mark.parametrize("scheduler", ["normal", "karras", "simple", "beta"])
def test_sigmas_for_custom_samplers(schedules, scheduler):
    schedule = schedules.from_beta_schedule("sqrt_linear (AnimateDiff)")
    whole = schedules.sampler_sigmas(schedule, scheduler, 10, 1.0)
    assert len(whole) == 11
    assert whole[0].item() == pytest.approx(25.1461, rel=1e-3)
    assert whole[-1] == 0
    part = schedules.sampler_sigmas(schedule, scheduler, 5, 0.5)
    assert part.equal(whole[-6:])
    assert len(schedules.sampler_sigmas(schedule, scheduler, 5, 0.0)) == 0


@pytest.fixture
def guidance(pack):
    return pack.submodule("sampling.guidance.custom_cfg")


def test_cfg_keyframes_between_two_values(guidance, pack):
    values = pack.submodule("sampling.schedules.interpolation").interpolated(8.0, 1.0, 5, "linear").tolist()
    found = [(k.start_percent, k.cfg, k.guarantee_steps) for k in guidance.keyframes_between(0.0, 1.0, values, ())]
    assert found == [(0.0, 8.0, 1), (0.25, 6.25, 0), (0.5, 4.5, 0), (0.75, 2.75, 0), (1.0, 1.0, 0)]


def test_a_cfg_keyframe_at_0_keeps_its_guaranteed_steps(guidance, pack):
    """Unlike other keyframes."""
    sampling = pack.submodule("sampling.schedules.beta_schedules").SCHEDULES["sqrt_linear (AnimateDiff)"]
    from comfy.model_base import ModelType

    step = pack.submodule("sampling.feature").Step
    keyframes = tuple(guidance.CfgKeyframe(1.0, p, 2) for p in (0.0, 0.0, 0.5))
    run = guidance.GuidanceRun.of(keyframes, sampling(ModelType.EPS), 25.14611435)
    sigmas = [25.1461, 13.2913, 7.5013, 4.4956, 2.8327, 1.8465, 1.2143, 0.7708, 0.4231, 0.0292]
    assert [keyframes.index(run.at(step(0, lambda s=s: s))) for s in sigmas] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("linear", (1, 2, 3)),
        ("ease_in", (1, 1.5, 3)),
        ("ease_out", (1, 2.5, 3)),
        ("ease_in_out", (1, 2, 3)),
    ],
)
def test_curves(pack, method, expected):
    assert pack.submodule("sampling.schedules.interpolation").interpolated(
        1.0, 3.0, 3, method
    ).tolist() == pytest.approx(expected)


def test_samplers_whose_noise_ancestral_options_replace(pack, host_path):
    import comfy.samplers

    options = pack.submodule("sampling.noise.ancestral").AncestralOptions("constant", seed_offset=1)
    changed = []
    for name in comfy.samplers.KSAMPLER_NAMES:
        sampler = comfy.samplers.sampler_object(name)
        applied = options.applied(sampler, 3, torch.Size((4, 4, 2, 2)))
        if applied is not sampler:
            assert "noise_sampler" not in sampler.extra_options
            changed.append(name)
    assert {"euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "lcm", "ddpm"} <= set(changed)
    assert not {"euler", "heun", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_2m", "lms"} & set(changed)
    sampler = options.applied(comfy.samplers.sampler_object("euler_ancestral"), 3, torch.Size((4, 4, 2, 2)))
    noise = sampler.extra_options["noise_sampler"](torch.tensor(1.0), torch.tensor(0.5))
    assert noise.shape == (4, 4, 2, 2)
    assert noise.equal(torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(4)).expand(4, -1, -1, -1))


def test_a_list_of_ancestral_seeds_is_refused(pack):
    ancestral = pack.submodule("sampling.noise.ancestral")
    with pytest.raises(ancestral.AncestralSeedError, match="one seed"):
        ancestral.AncestralOptions(seed_override=[1, 2])
