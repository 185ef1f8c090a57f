"""Sample settings in the host's sampler: guidance, noise, iterations, keyframes - each against what the host itself does."""

import pytest
import torch

FRAMES = 4


@pytest.fixture
def parts(pack):
    """The modules that settings are made of."""
    names = (
        "guidance.custom_cfg",
        "noise.initial",
        "noise.iterations",
        "noise.ancestral",
        "noise.free_init",
        "windows.context",
        "windows.schedules",
        "motion.applied",
    )
    return {name.split(".")[-1]: pack.submodule(f"sampling.{name}") for name in names}


@pytest.fixture
def settled(pack, new_model, new_motion):
    """`settled(custom_cfg=…)`: a MODEL with a motion model and these sample settings."""
    settings_type = pack.submodule("sampling.sample_settings").SampleSettings
    motion = pack.submodule("sampling.motion.applied")

    def make(motion_settings=None, contexts=(), **settings):
        applied = motion.apply(new_motion(), motion.MotionSettings(**(motion_settings or {})))
        animate = pack.submodule("sampling.evolved").animate
        return animate(new_model(), applied, "autoselect", contexts, settings_type(**settings))

    return make


def close(found, expected) -> bool:
    return ((found - expected).norm() / expected.norm()).item() < 1e-5


def cfg(parts, value, **fields):
    return (parts["custom_cfg"].CfgKeyframe(value, **fields),)


@pytest.mark.parametrize("sampler_cfg", [1.0, 7.5])
@pytest.mark.parametrize("as_mask", [False, True])
def test_custom_cfg_takes_the_samplers_place(settled, sample, parts, sampler_cfg, as_mask):
    value = torch.full((1, 3, 3), 4.0) if as_mask else 4.0
    custom = sample(settled(custom_cfg=cfg(parts, value)), cfg=sampler_cfg)
    assert close(custom, sample(settled(), cfg=4.0))
    assert not close(custom, sample(settled(), cfg=sampler_cfg))


def test_cfg_varies_over_frames(settled, sample, parts):
    """With one step and no windows, each frame is what it would be with its own CFG for all."""
    mask = torch.tensor([2.0, 6.0]).view(-1, 1, 1)
    custom = sample(settled(custom_cfg=cfg(parts, mask)), steps=1)
    assert close(custom[0], sample(settled(), steps=1, cfg=2.0)[0])
    assert close(custom[1:], sample(settled(), steps=1, cfg=6.0)[1:])


@pytest.fixture
def conds_evaluated():
    """Adds a wrapper to a MODEL; returns the list of cond_or_uncond of each UNet call."""

    def watch(model) -> list:
        from comfy.patcher_extension import WrappersMP

        seen = []

        def wrapper(executor, *args, **kwargs):
            options = kwargs.get("transformer_options") or args[5]
            seen.append(list(options["cond_or_uncond"]))
            return executor(*args, **kwargs)

        model.add_wrapper(WrappersMP.DIFFUSION_MODEL, wrapper)
        return seen

    return watch


def test_at_cfg_1_the_negative_prompt_is_not_computed(settled, sample, parts, conds_evaluated):
    keyframes = (parts["custom_cfg"].CfgKeyframe(3.0), parts["custom_cfg"].CfgKeyframe(1.0, start_percent=0.4))
    model = settled(custom_cfg=keyframes)
    seen = conds_evaluated(model)
    sample(model, steps=3)
    assert any(1 in call for call in seen)
    assert seen[-1] == [0]
    always = settled(custom_cfg=keyframes)
    always.disable_model_cfg1_optimization()
    seen = conds_evaluated(always)
    sample(always, steps=3)
    assert 1 in seen[-1]


def core_node(name: str, module: str, model, **inputs):
    import importlib

    node = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    if hasattr(node, "execute"):
        return node.execute(model, **inputs).result[0]
    return node().patch(model, **inputs)[0]


def test_the_hosts_rescale_cfg_behind_our_nodes_sees_the_custom_cfg(settled, sample, parts):
    custom = core_node("RescaleCFG", "nodes_model_advanced", settled(custom_cfg=cfg(parts, 5.0)), multiplier=0.7)
    expected = core_node("RescaleCFG", "nodes_model_advanced", settled(), multiplier=0.7)
    assert close(sample(custom, cfg=9.0), sample(expected, cfg=5.0))


@pytest.mark.parametrize("value", [1.0, 5.0])
def test_nodes_that_act_before_cfg_see_the_custom_cfg(settled, sample, parts, value):
    """At 1 they learn as well that there is no negative, which stops most of them."""
    for name, module, inputs in (
        ("APG", "nodes_apg", {"eta": 0.5, "norm_threshold": 3.0, "momentum": 0.2}),
        ("FreSca", "nodes_fresca", {"scale_low": 1.0, "scale_high": 1.5, "freq_cutoff": 2}),
    ):
        custom = core_node(name, module, settled(custom_cfg=cfg(parts, value)), **inputs)
        assert close(sample(custom, cfg=9.0), sample(core_node(name, module, settled(), **inputs), cfg=value)), name


@pytest.mark.parametrize("as_mask", [False, True])
def test_extras_equal_the_hosts_own_nodes(settled, sample, parts, as_mask):
    guidance = parts["custom_cfg"]

    def value(number):
        return torch.full((2, 2, 2), number) if as_mask else number

    extras = (guidance.RescaleCfg(value(0.6)), guidance.PerturbedAttention(value(2.0)))
    ours = sample(settled(custom_cfg=cfg(parts, 5.0, extras=extras)))
    theirs = core_node("RescaleCFG", "nodes_model_advanced", settled(), multiplier=0.6)
    theirs = core_node("PerturbedAttentionGuidance", "nodes_pag", theirs, scale=2.0)
    assert close(ours, sample(theirs, cfg=5.0))
    assert not close(ours, sample(settled(), cfg=5.0))


def test_other_guiders_take_the_custom_cfg_too(settled, parts, positive, negative, new_cond):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    def run(model):
        guider = Guider_DualCFG(model)
        guider.set_conds(positive, new_cond(5), negative)
        guider.set_cfg(1.5, 3.0)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
        latent = torch.zeros(FRAMES, 4, 8, 8)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return guider.sample(
                noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=1
            )

    assert not close(run(settled(custom_cfg=cfg(parts, 1.0))), run(settled()))


def test_nothing_of_a_run_stays_on_the_model(settled, sample, parts):
    plain = settled()
    before = sample(plain)
    sample(settled(custom_cfg=cfg(parts, 2.0), ancestral=parts["ancestral"].AncestralOptions()))
    assert torch.equal(sample(plain), before)


def sampled(model, noise, latent, positive, negative, steps=2, sampler="euler"):
    import comfy.sample

    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, 3.0, sampler, "normal", positive, negative, latent, disable_pbar=True, seed=3
        )


@pytest.fixture
def noise():
    return torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))


def looped(parts):
    options = parts["schedules"].WindowOptions("looped_uniform", 3, 1)
    return (parts["context"].Context(options, "flat"),)


@pytest.mark.parametrize("windows", [False, True])
def test_iterations_start_from_the_clip_before(settled, parts, noise, positive, negative, windows):
    """Windows move from step to step, and each iteration begins with those of the first step again."""
    contexts = looped(parts) if windows else ()
    twice = settled(contexts=contexts, iterations=parts["iterations"].Iterations(2))
    once = settled(contexts=contexts)
    first = sampled(once, noise, torch.zeros_like(noise), positive, negative)
    expected = sampled(once, noise, first, positive, negative)
    assert close(sampled(twice, noise, torch.zeros_like(noise), positive, negative), expected)


def twice_by_hand(once, parts, noise, conds, sigma: float) -> torch.Tensor:
    """FreeInit (Wu et al. 2023, section 4): the low frequencies of the first clip, noised to ``sigma``, in new noise."""
    latent, scale = torch.zeros_like(noise), once.model.latent_format.scale_factor
    first = sampled(once, noise, latent, *conds)
    alpha = 1 / ((sigma / scale) ** 2 + 1)
    noised = alpha**0.5 * first + (1 - alpha) ** 0.5 * noise
    fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(3 + 1))
    passed = parts["free_init"].low_pass_filter("gaussian", noise.shape, 0.25, 0.25)
    mixed = parts["free_init"].mixed_frequencies(noised, fresh, passed)
    return sampled(once, mixed, latent, *conds)


def test_free_init_starts_from_mixed_noise(settled, parts, noise, positive, negative):
    once = settled()
    sigma = float(once.get_model_object("model_sampling").sigmas[-1])
    ours = settled(iterations=parts["iterations"].FreeInit(2, seed_offset=1))
    expected = twice_by_hand(once, parts, noise, (positive, negative), sigma)
    assert close(sampled(ours, noise, torch.zeros_like(noise), positive, negative), expected)


def test_free_init_reckons_with_a_scale_of_latents_set_on_the_model(pack, settled, parts, noise, positive, negative):
    """In the first run as in the second: the host has put the scale on the network by then."""
    model = settled(iterations=parts["iterations"].FreeInit(2))
    scaled = pack.submodule("host.loading").with_latent_scale(model, model.model.latent_format.scale_factor / 2)
    latent = torch.zeros_like(noise)
    first, second = (sampled(scaled, noise, latent, positive, negative) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("sigma_step", "entry"), [(999, -1), (990, -10), (950, 0)])
def test_free_init_counts_steps_from_the_end_of_short_tables(parts, sigma_step, entry):
    """As ADE does where its index is in the table: `sigmas[sigma_step - 1000]`."""
    table = torch.linspace(0.1, 14.0, 50)
    sampling = type("Sampling", (), {"sigmas": table})
    assert parts["iterations"].FreeInit(sigma_step=sigma_step)._sigma(sampling) == float(table[entry])


def test_free_init_works_with_few_step_schedules(pack, new_model, new_motion, parts, noise, positive, negative):
    """The table of 50 entries has none for 700 steps: the noise level is that of step 700 of 1000."""
    motion, animate = parts["applied"], pack.submodule("sampling.evolved").animate
    settings = pack.submodule("sampling.sample_settings").SampleSettings
    applied = motion.apply(new_motion(), motion.MotionSettings())
    twice = settings(iterations=parts["iterations"].FreeInit(2, sigma_step=700, seed_offset=1))
    found = sampled(animate(new_model(), applied, "lcm", (), twice), noise, torch.zeros_like(noise), positive, negative)
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    sigma = float(((1 - alphas[700]) / alphas[700]).sqrt())
    once = animate(new_model(), applied, "lcm", (), settings())
    expected = twice_by_hand(once, parts, noise, (positive, negative), sigma)
    # the level between two entries of the short table is interpolated
    assert ((found - expected).norm() / expected.norm()).item() < 1e-3


def test_noise_of_the_settings_replaces_the_samplers(settled, parts, noise, positive, negative):
    source = parts["initial"].Source("constant", "auto1111", seed_offset=4)
    ours = settled(noise=parts["initial"].NoiseSettings(source))
    own = source.draw(3 + 4, noise, None)
    latent = torch.zeros_like(noise)
    expected = sampled(settled(), own, latent, positive, negative)
    assert close(sampled(ours, noise, latent, positive, negative), expected)
    # a later stage of KSamplerAdvanced adds no noise, and none is put there
    nothing = torch.zeros_like(noise)
    assert close(
        sampled(ours, nothing, noise, positive, negative), sampled(settled(), nothing, noise, positive, negative)
    )


def test_ancestral_noise(settled, sample, parts):
    """On a CPU the host's own ancestral noise is that of the next seed."""
    options = parts["ancestral"].AncestralOptions
    plain = sample(settled(), sampler="euler_ancestral")
    assert close(sample(settled(ancestral=options(seed_offset=1)), sampler="euler_ancestral"), plain)
    constant = sample(settled(ancestral=options("constant", seed_offset=1)), sampler="euler_ancestral")
    assert not close(constant, plain)
    assert close(sample(settled(ancestral=options()), sampler="euler"), sample(settled(), sampler="euler"))


@pytest.mark.parametrize("kind", ["Iterations", "FreeInit"])
def test_ancestral_noise_begins_again_in_each_iteration(settled, parts, noise, positive, negative, kind):
    """As the host's own does, to which the noise of this seed is equal."""
    latent, seen = torch.zeros_like(noise), []
    for ancestral in (None, parts["ancestral"].AncestralOptions(seed_offset=1)):
        twice = settled(iterations=getattr(parts["iterations"], kind)(2), ancestral=ancestral)
        seen.append(sampled(twice, noise, latent, positive, negative, sampler="euler_ancestral"))
    assert close(*seen)


def test_a_keyframe_without_effect_equals_the_end_of_a_percent_range(settled, sample, parts):
    keyframes = (parts["applied"].Keyframe(0.5, effect=0.0),)
    ours = sample(settled({"keyframes": keyframes}), steps=4)
    assert close(ours, sample(settled({"end_percent": 0.5}), steps=4))
    assert not close(ours, sample(settled(), steps=4))


@pytest.mark.parametrize("setting", ["scale", "effect"])
@pytest.mark.parametrize("windows", [False, True])
def test_a_mask_of_one_value_equals_the_number(settled, sample, parts, setting, windows):
    contexts = looped(parts) if windows else ()
    mask = torch.full((2, 4, 4), 0.6)
    ours = sample(settled({setting: mask}, contexts))
    assert close(ours, sample(settled({setting: 0.6}, contexts)))
    assert not close(ours, sample(settled({}, contexts)))


def test_masks_follow_their_frames_into_windows(settled, sample, parts):
    """Batched windows of two frames: each window's frames are as in a clip of their own with their part of the mask."""
    options = parts["schedules"].WindowOptions("batched", 2)
    mask = torch.tensor([0.2, 0.9, 1.7, 0.5]).view(4, 1, 1)
    found = sample(settled({"scale": mask}, (parts["context"].Context(options, "flat"),)), steps=1)
    reordered = sample(settled({"scale": mask[[0, 1, 0, 1]]}, (parts["context"].Context(options, "flat"),)), steps=1)
    assert close(found[:2], reordered[:2])
    assert not close(found[2:], reordered[2:])
