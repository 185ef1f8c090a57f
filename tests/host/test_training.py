"""Training on tiny networks of the host's own classes."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from animatediff_tests_training import assert_same_lora, out_of_memory, stop
from safetensors.torch import load_file

SDXL_POOLED = 16


# -- clips of several sizes, and the same ones again and again ----------------------------------------------------------


@pytest.mark.parametrize("train", ["lora", "inpainting"])
def test_clips_of_several_sizes_train_together(train_lora, animate, new_model, new_motion, layouts, new_latents, train):
    """Also where the UNet sees more than the latents, of their size."""
    model = new_model({**layouts["SD1.5"], "in_channels": 9} if train == "inpainting" else layouts["SD1.5"])
    if train == "inpainting":
        model.model.set_inpaint()
    latents = [*new_latents(1), *new_latents(1, size=16)]
    _, record = train_lora(model=animate(model, new_motion()), latents=latents, steps=6, batch=2, preview_every=3)
    assert record.steps == 6


def test_conditionings_that_are_the_same_object_are_computed_once(
    pack, training, animated, positive, negative, with_gradients
):
    def prepare():
        network = training("unet").TrainingUNet(animated(), [], torch.float32, False)
        network.prepare([positive, positive, negative, positive], [(4, 8, 8)], 4)
        return network.conds[4, 8, 8]

    conds = with_gradients(prepare)
    assert len(conds.conds) == 2
    crossed = conds.batch([0, 2, 3], 1)["c_crossattn"]
    assert torch.equal(crossed[0], crossed[2])
    assert torch.equal(crossed[1], negative[0][0][0])


# -- noise levels -------------------------------------------------------------------------------------------------------


def test_noise_levels_are_drawn_between_two_percents(train_lora, training, monkeypatch):
    drawn = []
    unet = training("unet").TrainingUNet
    sigma = unet.sigma
    monkeypatch.setattr(
        unet, "sigma", lambda self, timesteps: drawn.extend(timesteps.tolist()) or sigma(self, timesteps)
    )
    train_lora(steps=4, batch=8, start_percent=0.2, end_percent=0.3)
    assert len(drawn) == 32
    assert all(700 <= timestep < 800 for timestep in drawn)
    assert max(drawn) - min(drawn) > 20


def test_the_whole_range_is_what_it_was_before_there_was_a_choice(settings):
    assert settings().timesteps(1000) == (0, 1000)
    assert settings(start_percent=0.9999, end_percent=1.0).timesteps(1000) == (0, 1)


def test_an_empty_range_of_noise_levels_is_told(settings, training):
    with pytest.raises(training("trainer").TrainingFailed, match=r"start_percent is 0.5 and end_percent 0.5"):
        settings(start_percent=0.5, end_percent=0.5)


def test_noise_pairs_show_each_clip_with_a_noise_and_its_opposite(train_lora, training, monkeypatch):
    seen = []
    unet = training("unet").TrainingUNet
    add_noise = unet.add_noise

    def record(self, latents, noise, sigma):
        seen.append((latents, noise, sigma))
        return add_noise(self, latents, noise, sigma)

    monkeypatch.setattr(unet, "add_noise", record)
    train_lora(steps=2, batch=4, noise_pairs=True)
    for latents, noise, sigma in seen:
        assert len(latents) == len(noise) == 4
        for one in (latents, sigma):
            assert torch.equal(one[:2], one[2:])
        assert torch.equal(noise[:2], -noise[2:])
        assert not torch.equal(noise[0], noise[1])


def test_noise_pairs_need_an_even_batch(settings, training):
    with pytest.raises(training("trainer").TrainingFailed, match="batch is 3"):
        settings(batch=3, noise_pairs=True)


# -- gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_tensor_of_a_motion_lora_receives_a_gradient(train_lora, checkpointing, precision):
    # two steps: `up` begins at zero, so `down` has no gradient in the first
    lora, record = train_lora(checkpointing=checkpointing, precision=precision)
    untrained, _ = train_lora(steps=1, learning_rate=1e-12, weight_decay=0.0)
    assert record.steps == 2
    assert len(lora.pairs) == 4 * 2 * 21
    for name, (down, up) in lora.pairs.items():
        assert up.abs().max() > 0, f"{name} up"
        assert (down - untrained.pairs[name][0]).abs().max() > 1e-4, f"{name} down"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_every_tensor_of_a_motion_module_receives_a_gradient(train_module, version, checkpointing):
    untrained, _ = train_module(version=version, steps=1, learning_rate=1e-12, weight_decay=0.0)
    patcher, _ = train_module(version=version, steps=3, checkpointing=checkpointing)
    assert patcher.model.spec.version == version
    assert bool(patcher.model.spec.mid) == (version == "v2")
    assert patcher.model.spec.max_frames == (24 if version == "v1" else 32)
    before = dict(untrained.model.named_parameters())
    for name, parameter in patcher.model.named_parameters():
        assert (parameter - before[name]).abs().max() > 1e-5, name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_tensor_of_a_domain_adapter_receives_a_gradient(train_adapter, checkpointing):
    untrained, _ = train_adapter(steps=1, learning_rate=1e-12, weight_decay=0.0)
    tensors, _ = train_adapter(checkpointing=checkpointing)
    for name, tensor in tensors.items():
        assert (tensor - untrained[name]).abs().max() > 1e-5, name


def test_checkpointing_changes_memory_not_results(train_lora):
    plain, with_it = (train_lora(checkpointing=on)[0] for on in (False, True))
    for name, (down, up) in plain.pairs.items():
        torch.testing.assert_close(with_it.pairs[name][0], down, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(with_it.pairs[name][1], up, rtol=1e-4, atol=1e-5)


def test_an_untrained_motion_module_changes_no_picture(train_module, animate, new_model, sample):
    untrained, _ = train_module(steps=1, learning_rate=1e-12, weight_decay=0.0)
    schedule = "sqrt_linear (AnimateDiff)"
    plain = sample(animate(new_model(), beta_schedule=schedule))
    torch.testing.assert_close(
        sample(animate(new_model(), untrained, beta_schedule=schedule)), plain, rtol=1e-4, atol=1e-4
    )


def test_a_motion_module_is_trained_from_scratch_under_dynamic_vram(train_module, new_model, monkeypatch):
    """The host's layers have no weights then before some are loaded."""
    memory_management = pytest.importorskip("comfy.memory_management", reason="this release has no dynamic VRAM")
    if not hasattr(memory_management, "aimdo_enabled"):
        pytest.skip("this release has no dynamic VRAM")
    expected, _ = train_module(seed=3)
    model = new_model()
    monkeypatch.setattr(memory_management, "aimdo_enabled", True)
    patcher, record = train_module(model=model, seed=3)
    assert record.steps == 2
    for name, value in expected.model.state_dict().items():
        assert torch.equal(patcher.model.state_dict()[name], value), name


def test_motion_models_are_trained_with_an_attention_that_has_a_backward_pass(train_lora, animated, pack):
    """The one that they sample with may have none."""
    model = animated()
    for motion_model in model.get_additional_models_with_key("AnimateDiff"):
        for module in motion_model.model.modules():
            if isinstance(module, pack.submodule("motion_models.network.temporal").TemporalAttention):
                module.attend = lambda q, *_: q.detach()
    lora, _ = train_lora(model=model)
    for name, (_, up) in lora.pairs.items():
        assert up.abs().max() > 0, name


def test_inpainting_checkpoints_can_be_trained_for(train_lora, animate, new_model, new_motion, layouts):
    model = new_model({**layouts["SD1.5"], "in_channels": 9})
    model.model.set_inpaint()
    _, record = train_lora(model=animate(model, new_motion()))
    assert record.steps == 2


# -- SDXL ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sdxl(pack, new_sdxl_model, layouts, monkeypatch, positive, negative):
    """A tiny SDXL MODEL, whose widths pass for SDXL's; the conditionings are for it then."""
    families = pack.submodule("motion_models.spec").FAMILIES
    widths = tuple(32 * mult for mult in layouts["SDXL"]["channel_mult"])
    monkeypatch.setitem(families, widths, "SDXL")
    for [[_, options]] in (positive, negative):
        options["pooled_output"] = torch.ones(1, SDXL_POOLED)
    return new_sdxl_model(SDXL_POOLED)


def test_a_motion_lora_is_trained_for_sdxl(train_lora, sdxl, animate, new_motion, layouts):
    lora, record = train_lora(model=animate(sdxl, new_motion(layouts["SDXL"])))
    assert record.steps == 2
    for name, (_, up) in lora.pairs.items():
        assert up.abs().max() > 0, name


@pytest.mark.parametrize("from_start", [False, True])
def test_a_motion_module_is_trained_on_the_schedule_that_it_is_sampled_with(
    pack, training, train_module, sdxl, new_motion, layouts, monkeypatch, from_start
):
    schedules = []
    network = training("unet").TrainingUNet
    prepare = network.prepare
    monkeypatch.setattr(
        network, "prepare", lambda self, *_: schedules.append(self.sampling.sigmas) or prepare(self, *_)
    )
    start = {"start": new_motion(layouts["SDXL"], mid=False)} if from_start else {}
    patcher, record = train_module(model=sdxl, **start)
    assert record.steps == 2
    assert patcher.model.spec.family == "SDXL"
    beta_schedules = pack.submodule("sampling.schedules.beta_schedules")
    expected = beta_schedules.model_sampling("linear (AnimateDiff-SDXL)", sdxl.model.model_type).sigmas
    assert torch.equal(schedules[0], expected)


def test_the_node_leaves_the_schedule_to_the_motion_module(pack):
    inputs = {input.id: input for input in pack.submodule("nodes.training").TrainMotionModule.define_schema().inputs}
    assert inputs["beta_schedule"].default == "autoselect"


# -- what is learned ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["epsilon", "appearance-debiased"])
def test_training_lowers_the_loss(train_lora, objective):
    _, record = train_lora(steps=40, batch=2, objective=objective, caption_dropout=0.0, learning_rate=5e-3)
    assert sum(record.losses[-10:]) < 0.95 * sum(record.losses[:10])


@pytest.mark.parametrize("mid", [True, False])  # v2: group norm per frame; v1: over all frames of a clip
def test_training_sees_what_the_sampler_sees(pack, training, animated, positive, negative, with_gradients, sample, mid):
    """The noise that training predicts is the one the sampler acts on, at the same sigma and for the same latents."""
    model = animated(mid=mid)
    seen = {}

    def remember(arguments):
        seen.setdefault("x", arguments["input"].clone())
        seen.setdefault("sigma", arguments["sigma"].clone())
        seen.setdefault("denoised", arguments["cond_denoised"].clone())
        return arguments["denoised"]

    model.set_model_sampler_post_cfg_function(remember, disable_cfg1_optimization=True)
    sample(model, steps=3)

    inputs = (pack.submodule("motion_models.network.call").MotionInputs(),)

    def predict():
        network = training("unet").TrainingUNet(
            model, [m.model for m in model.get_additional_models_with_key("AnimateDiff")], torch.float32, False
        )
        network.prepare([positive, negative], [(4, 8, 8)], 4)
        return network.predict_noise(seen["x"].clone()[None], seen["sigma"][:1].clone(), [0], inputs)

    noise = with_gradients(predict)[0]
    expected = (seen["x"] - seen["denoised"]) / seen["sigma"][0]
    torch.testing.assert_close(noise, expected, rtol=1e-3, atol=1e-4)


# -- nothing else changes -----------------------------------------------------------------------------------------------


def test_the_sampling_model_is_left_as_it_was(train_lora, animated, sample):
    model = animated()
    keys = list(model.model.state_dict())
    before = sample(model)
    train_lora(model=model)
    assert list(model.model.state_dict()) == keys
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert torch.equal(sample(model), before)


def test_weights_that_are_patched_are_trained_as_patched(training, new_model, with_gradients):
    """A domain adapter on the MODEL is active in training, whether or not the MODEL was sampled before."""
    model = new_model().clone()
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    weight = model.model.state_dict()[name]
    change = torch.ones_like(weight)
    model.add_patches({name: ("diff", (change,))}, 0.5)
    unpatched = weight.clone()
    copied = with_gradients(
        lambda: training("unet").TrainingUNet(model, [], torch.float32, False).base.state_dict()[name]
    )
    torch.testing.assert_close(copied, unpatched + 0.5)
    torch.testing.assert_close(model.model.state_dict()[name], unpatched)


# -- what others make of it ---------------------------------------------------------------------------------------------


def test_an_independent_reader_finds_the_change_that_was_trained(train_lora, pack, tmp_path):
    """diffusers' own renaming of old LoRA names, on a file of ours with diffusers' names for the modules."""
    from diffusers.utils import state_dict_utils

    lora, _ = train_lora()
    path = str(tmp_path / "trained.safetensors")
    pack.submodule("lora.motion_lora").save_motion_lora(lora, path, dtype=torch.float32)

    def theirs(name: str) -> str:
        name = name.replace(".temporal_transformer.", ".")
        return name.replace("attention_blocks.0", "attn1").replace("attention_blocks.1", "attn2")

    peft = state_dict_utils.convert_unet_state_dict_to_peft(
        {theirs(name): value for name, value in load_file(path).items()}
    )
    assert len(peft) == 2 * len(lora.pairs)
    for name, (down, up) in lora.pairs.items():
        assert torch.equal(peft[f"{theirs(name)}.lora_A.weight"], down)
        assert torch.equal(peft[f"{theirs(name)}.lora_B.weight"], up)


# -- stopping, resuming -------------------------------------------------------------------------------------------------


def test_stopping_returns_what_was_trained(train_lora, in_step):
    """The host raises Stop out of any of its layers: the step at hand is dropped, the weights before it are kept."""
    import comfy.model_management

    in_step(3, stop)
    lora, record = train_lora(steps=10)
    assert record.steps == 2
    assert "stopped" in record.ended_early
    assert lora.metadata["animatediff.steps"] == "2"
    assert not comfy.model_management.processing_interrupted()  # the nodes that save the result still run
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_stopping_before_the_first_step_is_done_is_no_failure(train_lora, in_step, pack):
    in_step(1, stop)
    with pytest.raises(pack.submodule("host.training").Stopped):
        train_lora()


def test_nan_keeps_the_last_weights_whose_loss_was_good(train_lora, in_step):
    """The second step made the weights that give NaN in the third, so it is undone."""
    in_step(3, lambda loss: loss * float("nan"))
    lora, record = train_lora(steps=5)
    assert record.steps == 1
    assert lora.metadata["animatediff.steps"] == "1"
    assert "NaN" in record.ended_early
    assert_same_lora(lora, train_lora(steps=1)[0])


def test_what_a_too_high_learning_rate_leaves_can_be_trained_on(train_lora, training):
    lora, record = train_lora(steps=5, learning_rate=30.0)
    assert 1 <= record.steps < 4
    assert_same_lora(lora, train_lora(steps=record.steps, learning_rate=30.0)[0])
    unchanged, again = train_lora(steps=1, resume=lora, learning_rate=1e-12)
    assert again.steps == 1
    for name, pair in lora.pairs.items():
        torch.testing.assert_close(unchanged.pairs[name], pair, rtol=1e-6, atol=1e-9)
    with pytest.raises(training("trainer").TrainingFailed, match="Lower learning_rate"):
        train_lora(steps=5, learning_rate=1e20)


def test_running_out_of_memory_keeps_what_was_trained(train_lora, in_step):
    in_step(3, out_of_memory)
    lora, record = train_lora(steps=5)
    assert record.steps == 2
    assert "memory" in record.ended_early
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_running_out_of_memory_in_the_first_step_says_what_to_do(train_lora, training, in_step):
    in_step(1, out_of_memory)
    with pytest.raises(
        training("trainer").TrainingFailed,
        match=r"memory ran out\. .*gradient_checkpointing on, or lower batch, frames",
    ):
        train_lora()


def test_a_preview_that_fails_does_not_end_the_training(train_lora, training, monkeypatch, caplog):
    monkeypatch.setattr(training("unet").TrainingUNet, "draw", out_of_memory)
    lora, record = train_lora(steps=3, preview_every=1)
    assert record.steps == 3
    assert caplog.text.count("Training goes on without previews") == 1
    assert_same_lora(lora, train_lora(steps=3)[0])


def test_stopping_one_kind_of_training_lets_the_others_be(pack):
    nodes = pack.submodule("nodes.training")
    record = pack.submodule("training.trainer").TrainingRecord([1.0], "it was stopped")
    kinds = (nodes.TrainMotionLoRA, nodes.TrainMotionModule)

    def fingerprints():
        return [kind.PREPARE_CLASS_CLONE(None).fingerprint_inputs() for kind in kinds]  # clones, as the host does

    lora, module = fingerprints()
    nodes.TrainMotionLoRA.PREPARE_CLASS_CLONE(None).trained(lambda node_id: (None, record))
    assert fingerprints() == [lora + 1, module]


def test_the_memory_of_a_training_is_given_back_at_once(
    pack, training, animated, new_latents, positive, negative, settings, monkeypatch
):
    networks = []
    network = training("unet").TrainingUNet
    prepare = network.prepare
    monkeypatch.setattr(
        network, "prepare", lambda self, *_: networks.append(weakref.ref(self.base)) or prepare(self, *_)
    )
    node = pack.submodule("nodes.training").TrainMotionLoRA.PREPARE_CLASS_CLONE(None)
    data = {"latents": new_latents(), "positive": [positive], "negative": negative, "settings": settings()}
    gc.disable()
    try:
        with torch.inference_mode():
            node.trained(training("motion_lora").train_motion_lora, model=animated(), **data, rank=4, alpha=4.0)
        assert networks[0]() is None
    finally:
        gc.enable()


def test_nan_in_the_first_step_is_an_error_that_says_what_to_do(train_lora, training, monkeypatch):
    monkeypatch.setitem(training("objectives").OBJECTIVES, "epsilon", lambda p, *_: p.mean() * float("nan"))
    with pytest.raises(training("trainer").TrainingFailed, match="learning_rate"):
        train_lora()


def test_a_motion_lora_is_resumed_where_it_was(train_lora):
    first, _ = train_lora(steps=2, alpha=2.0)
    resumed, record = train_lora(steps=1, resume=first, alpha=2.0, rank=32, learning_rate=1e-12, weight_decay=0.0)
    assert resumed.rank == 4  # of the MotionLoRA, not of the node
    assert resumed.metadata["animatediff.steps"] == "3"
    assert record.steps == 1
    for name, (down, up) in first.pairs.items():
        torch.testing.assert_close(resumed.pairs[name][0], down)
        torch.testing.assert_close(resumed.pairs[name][1], up)


def test_resuming_on_another_motion_model_is_told_before_anything_is_unloaded(train_lora, animated, training, request):
    first, _ = train_lora()
    request.getfixturevalue("nothing_unloaded")
    with pytest.raises(training("trainer").TrainingFailed, match="motion model it was trained for"):
        train_lora(model=animated(mid=False), resume=first)
    name = next(iter(first.pairs))
    down, up = first.pairs[name]
    mixed = replace(first, pairs={**first.pairs, name: (down[:2], up)})
    with pytest.raises(training("trainer").TrainingFailed, match=r"cannot be resumed: .* family"):
        train_lora(resume=mixed)


def test_a_motion_module_is_trained_on_from_a_loaded_one(train_module, new_motion):
    start = new_motion()
    patcher, _ = train_module(start=start, steps=1, learning_rate=1e-12, weight_decay=0.0)
    for name, value in start.model.state_dict().items():
        torch.testing.assert_close(patcher.model.state_dict()[name], value)
    assert patcher.model is not start.model


def test_a_trained_motion_module_can_be_applied_twice(train_module, animate, new_model, sample):
    patcher, _ = train_module()
    once = sample(animate(new_model(), patcher, scale=1.0))
    twice = sample(animate(new_model(), patcher, patcher))
    assert not torch.equal(once, twice)


# -- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_unloaded")
def test_bad_data_is_refused_before_anything_is_computed(train_lora, training, new_latents, positive):
    error = training("clips").TrainingDataError
    with pytest.raises(error, match="Clip 1 has 3 frames, but training takes 4"):
        train_lora(latents=new_latents(frames=3))
    with pytest.raises(error, match="empty"):
        train_lora(latents=[])
    with pytest.raises(error, match="3 clips but 2 positive"):
        train_lora(conditionings=[positive, positive])
    with pytest.raises(error, match="NaN"):
        train_lora(latents=[{"samples": torch.full((6, 4, 8, 8), float("nan"))}])
    with pytest.raises(error, match="VAE of the checkpoint"):
        train_lora(latents=[{"samples": torch.zeros(6, 16, 8, 8)}])


@pytest.mark.usefixtures("nothing_unloaded")
@pytest.mark.parametrize("train", ["train_module", "train_adapter"])
def test_a_model_that_is_no_stable_diffusion_is_told(request, pack, new_model, train):
    model = new_model()
    model.model.diffusion_model = torch.nn.Linear(1, 1)
    error = pack.submodule("motion_models.network.injection").MotionModelMismatch
    with pytest.raises(error, match="a Stable Diffusion UNet, but this checkpoint is a Linear"):
        request.getfixturevalue(train)(model=model)


@pytest.mark.usefixtures("nothing_unloaded")
def test_a_motion_lora_needs_exactly_one_motion_model(train_lora, training, new_model, new_motion, animate):
    error = training("trainer").TrainingFailed
    with pytest.raises(error, match="has no motion model"):
        train_lora(model=new_model())
    with pytest.raises(error, match="has 2 motion models"):
        train_lora(model=animate(new_model(), new_motion(), new_motion(name="other")))
    with pytest.raises(error, match="at most 32 frames"):
        train_lora(frames=33)
