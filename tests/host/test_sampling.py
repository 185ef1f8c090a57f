"""Sampling with motion models through the host's samplers, guiders and nodes, on tiny networks."""

import inspect
import logging

import pytest
import torch


@pytest.fixture
def host_nodes(host_path):
    """Run a node of the host: `host_nodes("nodes_freelunch", "FreeU_V2", model, ...)`."""
    import importlib

    def run(module: str, name: str, *args, **kwargs):
        cls = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
        if hasattr(cls, "define_schema"):
            return cls.execute(*args, **kwargs).result[0]
        return getattr(cls(), cls.FUNCTION)(*args, **kwargs)[0]

    return run


@pytest.fixture
def calls(pack):
    """Watch a MODEL's UNet calls: `calls(model)` returns the list that fills with (batch, transformer_options)."""

    def watch(model) -> list:
        seen = []

        def wrapper(apply_model, args):
            seen.append((args["input"].shape[0], args["c"]["transformer_options"]))
            return apply_model(args["input"], args["timestep"], **args["c"])

        model.set_model_unet_function_wrapper(wrapper)
        return seen

    return watch


def pristine(model) -> bool:
    return not any(type(module).__name__ == "MotionSlot" for module in model.model.diffusion_model.modules())


def test_a_motion_model_changes_the_clip_and_joins_its_frames(new_model, new_motion, animate, sample):
    model = new_model()
    plain = sample(animate(model, beta_schedule="sqrt_linear (AnimateDiff)"))
    animated = sample(animate(model, new_motion()))
    assert not torch.allclose(plain, animated, rtol=0.1)
    # the first frame depends on how many frames follow: without a motion model it does not
    assert torch.allclose(
        sample(animate(model, beta_schedule="sqrt_linear (AnimateDiff)"), frames=3)[0], plain[0], atol=1e-4
    )
    assert not torch.allclose(sample(animate(model, new_motion()), frames=3)[0], animated[0], atol=1e-2)


def test_runs_one_after_another_do_not_see_each_other(new_model, new_motion, animate, sample):
    model = new_model()
    plain = sample(model)
    animated = animate(model, new_motion())
    first = sample(animated)
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(animated), first)


def guiders(model, positive, negative):
    from comfy_extras import nodes_custom_sampler as nodes

    def guider(cls, *args):
        return cls.execute(*args).result[0] if hasattr(cls, "execute") else cls().get_guider(*args)[0]

    return {
        "CFGGuider": guider(nodes.CFGGuider, model, positive, negative, 7.5),
        "BasicGuider": guider(nodes.BasicGuider, model, positive),
        "DualCFGGuider": guider(nodes.DualCFGGuider, model, positive, negative, negative, 7.5, 2.0, "regular"),
    }


@pytest.mark.parametrize("name", ["CFGGuider", "BasicGuider", "DualCFGGuider"])
def test_every_guider_honours_motion_model_and_percent_range(
    new_model, new_motion, animate, positive, negative, calls, name
):
    import comfy.samplers

    model, motion = new_model(), new_motion()

    def run(**settings):
        animated = animate(model, motion, **settings)
        seen = calls(animated)
        guider = guiders(animated, positive, negative)[name]
        sigmas = comfy.samplers.calculate_sigmas(animated.get_model_object("model_sampling"), "normal", 4)
        noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            latent = guider.sample(
                noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=3
            )
        assert all(
            options["ad_params"] == {"full_length": 4, "context_length": None, "sub_idxs": None} for _, options in seen
        )
        return latent

    everywhere, nowhere = run(), run(effect=0.0)
    assert not torch.allclose(everywhere, nowhere, rtol=0.1)
    assert torch.equal(run(start_percent=1.0), nowhere)
    half = run(end_percent=0.5)
    assert not torch.equal(half, everywhere)
    assert not torch.equal(half, nowhere)


def test_ksampler_advanced_in_two_stages_equals_one(new_model, new_motion, animate, sample, positive, negative):
    import nodes

    model = animate(new_model(), new_motion())
    latent = {"samples": torch.zeros(4, 4, 8, 8)}
    node = nodes.KSamplerAdvanced()
    shared = (7.5, "euler", "normal", positive, negative)
    with torch.inference_mode():
        whole = node.sample(model, "enable", 3, 4, *shared, latent, 0, 4, "disable")[0]
        half = node.sample(model, "enable", 3, 4, *shared, latent, 0, 2, "enable")[0]
        rest = node.sample(model, "disable", 3, 4, *shared, half, 2, 4, "disable")[0]
    torch.testing.assert_close(rest["samples"], whole["samples"], rtol=1e-3, atol=1e-3)


def test_area_and_mask_conds(new_model, new_motion, animate, sample, new_cond, negative, calls):
    """Conds that cover a part of the picture run in batches of their own; each still holds all frames."""
    model = animate(new_model(), new_motion())
    seen = calls(model)
    left = torch.zeros(1, 8, 8)
    left[..., :4] = 1
    positive = [
        *new_cond(1),
        *new_cond(4, area=(8, 4, 0, 4), strength=1.0),
        *new_cond(5, mask=left, mask_strength=1.0),
    ]
    with_parts = sample(model, conds=(positive, negative))
    assert {batch // len(options["cond_or_uncond"]) for batch, options in seen} == {4}
    assert not torch.equal(with_parts, sample(model, conds=(new_cond(1), negative)))


@pytest.mark.parametrize(
    ("module", "node", "arguments"),
    [
        ("nodes_freelunch", "FreeU_V2", (1.3, 1.4, 0.9, 0.2)),
        ("nodes_pag", "PerturbedAttentionGuidance", (3.0,)),
        ("nodes_model_advanced", "RescaleCFG", (0.7,)),
    ],
)
def test_nodes_before_and_after_ours_give_the_same(
    new_model, new_motion, animate, sample, host_nodes, module, node, arguments
):
    model, motion = new_model(), new_motion()
    size = 16  # the middle block then sees four positions: with one, these nodes have nothing to act on
    before = sample(animate(host_nodes(module, node, model, *arguments), motion), size=size)
    after = sample(host_nodes(module, node, animate(model, motion), *arguments), size=size)
    assert torch.equal(before, after)
    assert not torch.equal(before, sample(animate(model, motion), size=size))


def test_a_lora_before_and_after_ours_reaches_layers_behind_the_motion_modules(new_model, new_motion, animate, sample):
    """Injected layers shift the names of those behind them; a LoRA made for the plain UNet must still find its own."""
    import comfy.sd

    model, motion = new_model(), new_motion()
    lora = {}
    for layer in ("middle_block.2.out_layers.3", "output_blocks.2.1.conv", "output_blocks.5.2.conv"):
        weight = model.model.state_dict()[f"diffusion_model.{layer}.weight"]
        name = f"lora_unet_{layer.replace('.', '_')}"
        lora[f"{name}.lora_down.weight"] = torch.randn(2, weight.shape[1], 3, 3) * 0.2
        lora[f"{name}.lora_up.weight"] = torch.randn(weight.shape[0], 2, 1, 1) * 0.2
    animated = animate(model, motion)
    sample(animated)  # a run before must not leave anything that hides layers
    with_lora, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    assert len(with_lora.patches) == 3
    before = sample(animate(with_lora, motion))
    after, _ = comfy.sd.load_lora_for_models(animated, None, lora, 1.0, 0.0)
    assert torch.equal(sample(after), before)
    assert not torch.equal(sample(animated), before)


def test_an_exception_in_the_unet_leaves_it_as_before(new_model, new_motion, animate, sample):
    model = new_model()
    plain = sample(model)
    animated = animate(model, new_motion())
    expected = sample(animated)

    def fail(*_):
        raise RuntimeError("attention failed")

    broken = animated.clone()
    broken.set_model_attn2_patch(fail)
    with pytest.raises(RuntimeError, match="attention failed"):
        sample(broken)
    assert pristine(model)
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(animated), expected)


def test_a_run_within_a_run(new_model, new_motion, animate, sample):
    """A preview or a detailer may sample another MODEL from a callback."""
    outer, inner = (
        animate(new_model(), new_motion()),
        animate(new_model(seed=9), new_motion(name="other", seed=7), effect=0.5),
    )
    alone = sample(outer), sample(inner, frames=6)
    nested = []
    result = sample(outer, callback=lambda *_: nested.append(sample(inner, frames=6)))
    assert torch.equal(result, alone[0])
    assert all(torch.equal(latent, alone[1]) for latent in nested)
    assert len(nested) == 3


def test_several_motion_models(new_model, new_motion, new_motion_file, pack, animate, sample):
    model = new_model()
    first, second = new_motion(name="first"), new_motion(name="second", seed=8)
    both = sample(animate(model, first, second))
    assert not torch.equal(both, sample(animate(model, first)))
    assert not torch.equal(both, sample(animate(model, second, first)))
    load = pack.submodule("motion_models.files.motion_model").load_motion_model
    same = load(new_motion_file(name="same"))
    twice = animate(model, same, same)
    networks = [patcher.model for patcher in twice.get_additional_models_with_key("AnimateDiff")]
    assert networks[0] is not networks[1]
    assert torch.equal(sample(twice), sample(animate(model, same, load(new_motion_file(name="its_copy")))))


def test_applying_again_replaces(new_model, new_motion, animate, sample):
    model, motion = new_model(), new_motion()
    once = sample(animate(model, motion))
    assert torch.equal(sample(animate(animate(model, new_motion(name="x", seed=5)), motion)), once)
    assert torch.equal(
        sample(animate(animate(model, motion), beta_schedule="sqrt_linear (AnimateDiff)")),
        sample(animate(model, beta_schedule="sqrt_linear (AnimateDiff)")),
    )


def test_settings_survive_nodes_that_clone_the_model(new_model, new_motion, animate, sample):
    animated = animate(new_model(), new_motion(), scale=1.5, effect=0.7, end_percent=0.6)
    assert torch.equal(sample(animated.clone().clone()), sample(animated))


def test_one_frame_bypasses_the_motion_model_and_says_so(new_model, new_motion, animate, sample, caplog):
    model = new_model()
    with caplog.at_level(logging.WARNING):
        latent = sample(animate(model, new_motion()), frames=1)
    assert "single frame" in caplog.text
    assert "batch_size" in caplog.text
    assert torch.equal(latent, sample(animate(model, beta_schedule="sqrt_linear (AnimateDiff)"), frames=1))


def test_the_note_of_one_frame_stands_on_the_node_that_samples_until_it_is_mended(
    new_model, new_motion, animate, sample, on_the_node
):
    model = animate(new_model(), new_motion())
    with on_the_node("7") as shown:
        sample(model)
        assert shown == []
        sample(model, frames=1)
        assert [node for node, _ in shown] == ["7"]
        assert "single frame" in shown[0][1]
        sample(model)
        sample(model)
        assert shown[1:] == [("7", " ")]


def test_too_many_frames_names_the_node_to_add(new_model, new_motion, animate, sample):
    model = new_model()
    with pytest.raises(
        ValueError,
        match=r"at most 8 at once. Connect Context Options: Shared Windows with context_length 8 to",
    ):
        sample(animate(model, new_motion(frames=8)), frames=9)
    assert pristine(model)


@pytest.fixture
def context_windows(host_nodes):
    """The host's Context Windows (Manual): windows of four frames side by side."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    known = inspect.signature(ContextWindowsManualNode.execute).parameters

    def apply(model, causal_window_fix: bool):
        options = {"context_length": 4, "context_overlap": 0, "context_schedule": "batched", "context_stride": 1}
        options |= {"closed_loop": False, "fuse_method": "flat", "dim": 0, "freenoise": False}
        options |= {"causal_window_fix": causal_window_fix}
        options = {name: value for name, value in options.items() if name in known}  # 0.3.75 knows fewer
        return host_nodes("nodes_context_windows", "ContextWindowsManualNode", model, **options)

    apply.prepends_a_frame = "causal_window_fix" in known
    return apply


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_positions_restart_in_each_window_of_the_hosts_context_windows(
    new_model, new_motion, animate, sample, context_windows, calls, cfg
):
    """Windows side by side share nothing, so the first one is a clip of its own."""
    model = animate(new_model(), new_motion(frames=4))
    windowed = context_windows(model, causal_window_fix=False)
    seen = calls(windowed)
    # as many sigmas as frames: with any other number the node itself fails in ComfyUI 0.3.75
    whole = sample(windowed, frames=8, steps=7, cfg=cfg)
    frames = [options["ad_params"] for _, options in seen]
    assert [f["sub_idxs"] for f in frames[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert {(f["full_length"], f["context_length"]) for f in frames} == {(8, 4)}
    torch.testing.assert_close(whole[:4], sample(model, frames=4, steps=7, cfg=cfg))


def test_the_frame_that_the_host_puts_in_front_of_a_window_counts(
    new_model, new_motion, animate, sample, context_windows, calls
):
    if not context_windows.prepends_a_frame:
        pytest.skip("this release of the host has no causal_window_fix")
    model = new_model()
    with pytest.raises(ValueError, match="A context window of 5 frames"):
        sample(context_windows(animate(model, new_motion(frames=4)), causal_window_fix=True), frames=8)
    windowed = context_windows(animate(model, new_motion(frames=5)), causal_window_fix=True)
    seen = calls(windowed)
    sample(windowed, frames=8)
    assert [options["ad_params"]["sub_idxs"] for _, options in seen[:2]] == [[0, 1, 2, 3], [3, 4, 5, 6, 7]]


def test_no_sigma_is_read_from_the_device_without_a_percent_range_or_schedule(pack):
    motion_run = pack.submodule("sampling.motion.in_run").MotionInRun
    inputs = pack.submodule("motion_models.network.call").MotionInputs

    def on_device() -> float:
        raise AssertionError("a device sync")

    step = pack.submodule("sampling.feature").Step(0, on_device)
    keyframe = pack.submodule("sampling.motion.applied").Keyframe()
    only_one = pack.submodule("sampling.keyframes").InForce((keyframe,), (1.0,), first_sigma=1.0, index=-1)
    mask = pack.submodule("motion_models.network.strength").strength_of(torch.ones(4, 1, 1), 4)
    masked = ({}, pack.submodule("sampling.strength.in_run").StrengthInRun(1.0, schedule=None, mask=mask))
    for low_rank in ((), (masked,)):
        assert motion_run(None, (inputs(),), only_one, low_rank).inputs(step, [0, 1], ()) is not None
    with pytest.raises(AssertionError, match="a device sync"):
        assert step.sigma
