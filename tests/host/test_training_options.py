"""What Training Options and Training Validation do to a training, and how their nodes go together."""

from __future__ import annotations

import pytest
import torch
from animatediff_tests_training import assert_same_lora

# -- validation ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def held_out(new_latents, positive):
    return lambda every=1, **latents: {
        "latents": tuple(new_latents(**{"clips": 2, "seed": 9, **latents})),
        "positive": (positive,),
        "every": every,
    }


def test_validation_is_the_same_for_the_same_weights_and_changes_nothing(train_lora, options, held_out):
    plain, expected = train_lora(steps=4)
    lora, record = train_lora(steps=4, options=options(validation=held_out(2)))
    assert_same_lora(lora, plain)
    assert record.losses == expected.losses
    assert list(record.validation) == [2, 4]
    # another seed draws other noise for training, not for validation
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "resume": lora}
    found = [train_lora(steps=1, seed=seed, options=options(validation=held_out()), **still)[1] for seed in (1, 2)]
    assert found[0].losses != found[1].losses
    assert found[0].validation[1] == pytest.approx(found[1].validation[1], rel=1e-6)


def test_validation_is_of_the_clips_that_were_held_out(train_lora, options, held_out):
    one, other = (
        train_lora(steps=1, options=options(validation=held_out(seed=seed)))[1].validation[1] for seed in (9, 10)
    )
    assert one != other


def test_held_out_clips_may_be_of_another_size(train_lora, options, held_out):
    _, record = train_lora(steps=1, options=options(validation=held_out(size=16)))
    assert record.validation[1] > 0


# -- how it learns ------------------------------------------------------------------------------------------------------


def test_equal_runs_are_equal_bit_for_bit(train_lora):
    assert_same_lora(train_lora(steps=3)[0], train_lora(steps=3)[0])


def test_accumulated_batches_make_one_step_of_their_mean(train_lora, options):
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    _, single = train_lora(steps=4, **still)
    _, twice = train_lora(steps=2, options=options(accumulate=2), **still)
    means = [sum(single.losses[at : at + 2]) / 2 for at in (0, 2)]
    assert twice.losses == pytest.approx(means, rel=1e-5)


def test_accumulated_gradients_are_those_of_a_batch(train_lora, training, monkeypatch, options):
    """The same clips at the same noise, in one batch of two and in two of one: the same step."""
    draw = training("clips").Clips.draw

    def same_clip(self, epoch, clips, frames, *_):
        picks, _ = draw(self, epoch, 1, frames, 0.0, torch.Generator().manual_seed(0))
        return picks * clips, epoch

    monkeypatch.setattr(training("clips").Clips, "draw", same_clip)
    unet = training("unet").TrainingUNet
    monkeypatch.setattr(
        unet, "sigma", lambda self, timesteps: torch.full((len(timesteps),), 2.0) + 0 * self.sampling.sigmas[0]
    )
    monkeypatch.setattr(unet, "add_noise", lambda self, latents, noise, sigma: latents)
    prediction = unet.prediction
    monkeypatch.setattr(
        unet, "prediction", lambda self, latents, noise, *rest: prediction(self, latents, torch.ones_like(noise), *rest)
    )
    batch, _ = train_lora(steps=2, batch=2)
    accumulated, _ = train_lora(steps=2, options=options(accumulate=2))
    for name, pair in batch.pairs.items():
        for found, expected in zip(accumulated.pairs[name], pair, strict=True):
            # Adam makes whole steps of gradients that are all but zero, whose sign is one of rounding
            assert (found - expected).norm() <= 1e-3 * expected.norm()


def test_a_noise_offset_is_one_number_for_each_clip_and_channel(train_lora, training, monkeypatch, options):
    seen = []
    unet = training("unet").TrainingUNet
    add_noise = unet.add_noise
    monkeypatch.setattr(
        unet,
        "add_noise",
        lambda self, latents, noise, sigma: seen.append(noise) or add_noise(self, latents, noise, sigma),
    )
    train_lora(steps=1, batch=2)
    train_lora(steps=1, batch=2, options=options(noise_offset=0.5))
    difference = seen[1] - seen[0]
    assert difference.std(dim=(1, 3, 4)).max() < 1e-6
    assert difference.mean(dim=(1, 3, 4)).unique().numel() == 8  # 2 clips of 4 channels


def test_min_snr_weighs_the_loss_of_each_clip(train_lora, training, monkeypatch, options):
    sigmas = torch.tensor([0.5, 4.0])
    monkeypatch.setattr(training("unet").TrainingUNet, "sigma", lambda self, timesteps: sigmas[: len(timesteps)])
    still = {"learning_rate": 1e-12, "steps": 1}
    singles = []
    for level in (0.5, 4.0):
        sigmas = torch.tensor([level])
        _, plain = train_lora(**still)
        _, weighted = train_lora(**still, options=options(min_snr_gamma=1.0))
        singles.append(weighted.losses[0] / plain.losses[0])
    assert singles == pytest.approx([0.25, 1.0], rel=1e-4)  # min(SNR, 1) / SNR with SNR 4 and 1/16


@pytest.fixture
def v_model(pack, animate, new_model, new_motion):
    """A MODEL of a v-prediction checkpoint with a tiny motion model."""
    from comfy.model_base import ModelType

    schedules = pack.submodule("host.model_sampling")
    with torch.inference_mode():
        model = new_model()
        model.add_object_patch(
            "model_sampling", schedules.discrete_schedule(ModelType.V_PREDICTION, "sqrt_linear", 0.012)
        )
        return animate(model, new_motion(), beta_schedule="use existing")


def test_v_prediction_models_are_trained_on_v(training, v_model, positive, negative, with_gradients):
    """Against the definitions: x_t = α x + σ ε and v = α ε - σ x, with α² + σ² = 1 (arXiv 2202.00512)."""
    latents, noise = torch.randn(1, 4, 4, 8, 8), torch.randn(1, 4, 4, 8, 8)
    for sigma in (0.1, 1.0, 14.0):
        level = torch.tensor([sigma])

        def predict(level=level):
            network = training("unet").TrainingUNet(v_model, [], torch.float32, False)
            network.prepare([positive, negative], [(4, 8, 8)], 4)
            clean = network.base.process_latent_in(latents)
            alpha = 1 / (1 + level**2).sqrt()
            mixed = alpha * clean + alpha * level * noise
            timestep = network.sampling.timestep(level.repeat(4)).float()
            context = positive[0][0].repeat(4, 1, 1)
            v = network.unet(mixed[0], timestep, context=context, transformer_options=network.options)
            return network.prediction(latents, noise, level, [0]), (v, alpha * noise - alpha * level * clean)

        (predicted, target), (v, expected) = with_gradients(predict)
        torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(predicted[0], v, rtol=1e-3, atol=1e-4)


def test_high_noise_has_a_gradient_in_v_prediction_models(train_lora, v_model):
    """In noise, the error of a v-prediction model is divided by sigma."""
    high = {"steps": 1, "start_percent": 0.0, "end_percent": 0.02}
    _, of_v = train_lora(model=v_model, **high)
    _, of_noise = train_lora(**high)
    assert of_v.norms[0] > 0.1 * of_noise.norms[0]


def test_ranks_differ_by_kind_of_layer_and_are_resumed(train_lora, options):
    lora, _ = train_lora(options=options(ranks={"to_v": 8, "to_k": 0}))
    ranks = {name: down.shape[0] for name, (down, _) in lora.pairs.items()}
    assert {rank for name, rank in ranks.items() if ".to_v" in name} == {8}
    assert {rank for name, rank in ranks.items() if ".to_q" in name} == {4}
    assert not any(".to_k" in name for name in ranks)
    again, _ = train_lora(resume=lora, options=options(ranks={"to_k": 0}), learning_rate=1e-12, weight_decay=0.0)
    for name, pair in lora.pairs.items():
        torch.testing.assert_close(again.pairs[name], pair)


def test_every_optimizer_of_the_list_learns(train_lora, training, options, new_latents, positive):
    """Or says what it lacks, before anything is computed."""
    clip = new_latents(1)
    same = {"latents": tuple(clip), "positive": (positive,), "every": 1}  # the clip itself, at one noise
    usual = {"SGD": 1.0, "Prodigy": 1.0, "Lion": 1e-3}
    learned = []
    for name in training("optimizers").OPTIMIZERS:
        settings = {"optimizer": name, "learning_rate": usual.get(name, 5e-3), "caption_dropout": 0.0, "batch": 2}
        try:
            _, record = train_lora(latents=clip, steps=20, options=options(validation=same), **settings)
        except training("settings").TrainingFailed as error:
            assert "pip install" in str(error)
            continue
        # Prodigy begins with a millionth of the learning rate, and looks for its own in hundreds of steps
        enough = 1.0 if name == "Prodigy" else 0.995
        assert record.validation[20] < enough * record.validation[1], name
        learned.append(name)
    assert len(learned) >= 4


# -- the nodes ----------------------------------------------------------------------------------------------------------


def test_the_options_of_a_chain_come_together(option, training, new_latents, positive):
    learning = {"warmup_steps": 5, "ema": 0.9, "accumulate": 2, "min_snr_gamma": 5.0, "noise_offset": 0.1}
    checkpoints = {"filename_prefix": "fox", "every": 10, "keep": 2, "go_on": True, "sample": False}
    first = option("Options", **learning, rslora=True, ranks="to_v: 8")
    second = option("Checkpoints", **checkpoints, prev_options=first)
    third = option("Validation", latents=new_latents(2), positive=[positive], every=[20], prev_options=[second])
    assert {name: getattr(third, name) for name in learning} == learning
    assert (third.rslora, third.ranks) == (True, {"to_v": 8})
    assert third.checkpoints == training("settings").CheckpointSettings("fox", 10, 2, True, False, None)
    assert (len(third.validation.latents), third.validation.every) == (2, 20)
    assert first.checkpoints is None  # nodes' outputs are kept, and never altered


def test_training_nodes_take_their_options(pack, option, animated, new_latents, positive, negative, checkpoint_files):
    options = option("Checkpoints", filename_prefix="fox", every=1, keep=1, go_on=False, sample=False)
    node = pack.submodule("nodes.training").TrainMotionLoRA.PREPARE_CLASS_CLONE(None)
    widgets = {
        entry.id: [entry.default]
        for entry in node.define_schema().inputs
        if getattr(entry, "default", None) is not None
    }
    data = {"model": [animated()], "latents": new_latents(), "positive": [positive], "negative": [negative]}
    with torch.inference_mode():
        few = {"steps": [2], "frames": [4], "rank": [2], "options": [options]}
        result = node.execute(**{**widgets, **data, **few})
    assert result.result[2] == 2
    assert checkpoint_files("*.state") == ["fox_00001_step000002.state"]
