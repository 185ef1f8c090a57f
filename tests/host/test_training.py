"""Training on tiny networks of the host's own classes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from animatediff_dev_examples import NAMES, api_form
from animatediff_tests_tiny import CONTEXT
from animatediff_tests_training import assert_same_lora
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

SDXL_POOLED = 16


def trains_motion_lora(name: str) -> bool:
    return any(node["class_type"] == "AnimateDiffTrainMotionLoRA" for node in api_form(name).values())


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


def test_the_text_of_a_clip_is_projected_once(train_lora):
    """Not once for every frame of it, forwards or when layers are computed again."""
    rows = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.nn.functional.linear and args[1].shape[1] == CONTEXT:
                rows.append(len(args[0]))
            return func(*args, **(kwargs or {}))

    for checkpointing in (False, True):
        with Watch():
            train_lora(steps=1, batch=2, checkpointing=checkpointing)
        assert set(rows) == {2}
        assert len(rows) >= 2 * 16  # keys and values of each spatial transformer
        rows.clear()


def test_texts_that_differ_from_frame_to_frame_are_seen_by_their_frames(
    training, animated, new_cond, positive, with_gradients
):
    """As Prompt Scheduling makes them. A clip with one text in the same batch has it in all of its frames."""
    changing = [[torch.cat([new_cond(seed)[0][0] for seed in range(4)]), {"pooled_output": None}]]
    noisy = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def predict(conditionings: list[int], clips: torch.Tensor) -> torch.Tensor:
        network = training("unet").TrainingUNet(animated(), [], torch.float32, False)
        network.prepare([changing, positive], [(4, 8, 8)], 4)
        return network.predict_noise(clips, torch.full((len(clips),), 3.0), conditionings)

    both = with_gradients(predict, [0, 1], noisy)
    still = with_gradients(predict, [1], noisy[1:])
    torch.testing.assert_close(both[1:], still, rtol=1e-4, atol=1e-5)
    network = with_gradients(lambda: training("unet").TrainingUNet(animated(), [], torch.float32, False))
    sigma = torch.tensor(3.0)
    expected = network.unet(
        noisy[0] / (sigma**2 + 1) ** 0.5,
        network.sampling.timestep(sigma.repeat(4)).float(),
        context=changing[0][0],
        transformer_options=network.options,
    )
    torch.testing.assert_close(both[0], expected, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize("level", [0.01, 0.5, 1.0])
def test_from_pure_noise_a_clip_is_mixed_in_as_sampling_mixes_it(
    training, animated, positive, negative, with_gradients, monkeypatch, level
):
    """At the highest level nothing of the clip is left; what is to be predicted leads to the clip from any level."""
    latents, noise = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 4, 4, 8, 8)
    network = with_gradients(training("unet").TrainingUNet, animated(), [], torch.float32, False)
    highest = network.sampling.sigmas[-1].view(1)
    seen, answer = [], torch.randn_like(latents)

    def denoised(self, noisy, *_):
        seen.append(noisy)
        return answer

    monkeypatch.setattr(training("unet").TrainingUNet, "denoised", denoised)
    clean, sigma = network.base.process_latent_in(latents), highest * level
    for predicts_v in (False, True):
        network.predicts_v = predicts_v
        predicted, target = network.prediction(latents, noise, sigma, [0], from_pure_noise=True)
        torch.testing.assert_close(seen.pop(), (1 - level) ** 3 * clean + sigma * noise)
        scale = (sigma**2 + 1).sqrt() if predicts_v else 1.0
        torch.testing.assert_close((predicted - target) * sigma / scale, clean - answer, rtol=1e-4, atol=1e-3)


def test_from_pure_noise_pictures_count_alike_at_high_noise(train_lora, training, monkeypatch):
    """Without it, the same error of the picture costs 100 times less at ten times the noise."""
    unet = training("unet").TrainingUNet
    monkeypatch.setattr(unet, "denoised", lambda self, noisy, *_: 0 * noisy.detach() * next(iter(tuned)))
    tuned = [torch.ones((), requires_grad=True)]

    def loss(sigma: float, **changes) -> float:
        monkeypatch.setattr(unet, "sigma", lambda self, timesteps: torch.full((len(timesteps),), sigma))
        _, record = train_lora(steps=1, caption_dropout=0.0, **changes)
        return record.losses[0]

    assert loss(20.0, from_pure_noise=True) == pytest.approx(loss(4.0, from_pure_noise=True), rel=0.07)
    min_snr = training("settings").TrainingOptions(min_snr_gamma=5.0)  # which weighs levels itself
    assert loss(20.0, from_pure_noise=True, options=min_snr) < 0.01 * loss(20.0, from_pure_noise=True)


def test_prompts_of_earlier_versions_train_as_they_did(pack):
    nodes = pack.submodule("nodes.training")
    inputs = nodes.TrainMotionLoRA.GET_SCHEMA().inputs
    values = {one.id: one.default for one in inputs if getattr(one, "default", None) is not None}
    assert inputs[-1].id == "from_pure_noise", "widgets are stored by their places: new ones come last"
    assert nodes.settings_of(dict(values)).from_pure_noise
    del values["from_pure_noise"]
    assert not nodes.settings_of(dict(values)).from_pure_noise


# One clip needs settings of its own (docs/training.md).
MOTION_LORA_EXAMPLES = [name for name in NAMES if name.startswith("train_") and trains_motion_lora(name)]


@pytest.mark.parametrize("name", MOTION_LORA_EXAMPLES)
def test_the_examples_train_with_the_defaults_of_the_node(pack, name):
    inputs = pack.submodule("nodes.training").TrainMotionLoRA.GET_SCHEMA().inputs
    defaults = {one.id: one.default for one in inputs if getattr(one, "default", None) is not None}
    del defaults["preview_every"]
    used = api_form(name)["train"]["inputs"]
    assert {key: used[key] for key in defaults} == defaults


# -- the motion error ---------------------------------------------------------------------------------------------------


@pytest.fixture
def moving_latents():
    """Clips of one pattern that goes to the right."""
    wave = torch.sin(torch.arange(12) * 2 * torch.pi / 6)
    frames = torch.stack([wave.roll(step)[:8].expand(4, 8, 8) for step in range(6)])
    return [{"samples": frames * contrast} for contrast in (0.5, 1.0, 2.0)]


def test_the_motion_error_is_measured_on_the_way_and_changes_nothing(train_lora, training, moving_latents, monkeypatch):
    lora, record = train_lora(steps=27, latents=moving_latents)
    assert sorted(record.motion) == [25, 27]
    assert all(0 <= error <= 180 for error in record.motion.values())
    _, same = train_lora(steps=27, latents=moving_latents)
    assert same.motion == record.motion
    monkeypatch.setattr(training("motion").MotionCheck, "due", lambda self, step: False)
    unmeasured, without = train_lora(steps=27, latents=moving_latents)
    assert without.motion == {}
    assert_same_lora(unmeasured, lora)


def test_clips_that_go_nowhere_have_no_motion_error(train_lora):
    _, record = train_lora(steps=25)
    assert record.motion == {}


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


def test_what_is_computed_last_is_not_computed_again(train_lora, pack, monkeypatch):
    """It would be there again when memory is highest, which is when the gradient begins."""
    calls: Counter = Counter()
    transformer = pack.submodule("motion_models.network.temporal").TemporalTransformer
    forward = transformer.forward
    monkeypatch.setattr(
        transformer, "forward", lambda self, *rest: calls.update([self.layer_name]) or forward(self, *rest)
    )
    train_lora(steps=1, checkpointing=True)
    last = "up_blocks.3.motion_modules.2.temporal_transformer"
    assert calls.pop(last) == 1
    assert len(calls) == 20
    assert set(calls.values()) == {2}


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
