"""What Training Options, Training Checkpoints and Training Validation do to a training."""

from __future__ import annotations

import csv
import errno
import glob
import os

import pytest
import torch
from animatediff_tests_training import assert_same_lora, stop
from PIL import Image

KEY = "animatediff_motion_lora"
LIBRARIES = {"Lion": "lion_pytorch", "Prodigy": "prodigyopt", "AdamW schedule-free": "schedulefree"}


@pytest.fixture
def options(training, folder):
    """`options(ema=0.9, checkpoints={...}, validation={...})`."""
    for key in (KEY, "animatediff_models", "loras"):
        folder(key)  # emptied afterwards

    def make(checkpoints=None, validation=None, **values):
        module = training("settings")
        return module.TrainingOptions(
            checkpoints=None if checkpoints is None else module.CheckpointSettings(**{"clip": False, **checkpoints}),
            validation=None if validation is None else module.ValidationSettings(**validation),
            **values,
        )

    return make


@pytest.fixture
def files(folder):
    """`files("*.state")`: the checkpoints' files of that pattern, by name."""
    path = folder(KEY)
    return lambda pattern: sorted(os.path.basename(found) for found in glob.glob(os.path.join(path, pattern)))


@pytest.fixture
def path(folder):
    return lambda name: os.path.join(folder(KEY), name)


def without(library: str) -> None:
    if library in LIBRARIES:
        pytest.importorskip(LIBRARIES[library], reason=f"needs {LIBRARIES[library]} (requirements-dev.txt)")


# -- going on -----------------------------------------------------------------------------------------------------------

GOING_ON = {
    "AdamW": {},
    "Adam": {"optimizer": "Adam"},
    "RMSprop": {"optimizer": "RMSprop"},
    "SGD": {"optimizer": "SGD", "learning_rate": 1.0},
    "Lion": {"optimizer": "Lion"},
    "Prodigy": {"optimizer": "Prodigy", "learning_rate": 1.0},
    "AdamW schedule-free": {"optimizer": "AdamW schedule-free"},
    "an average": {"ema": 0.8},
    "all at once": {
        "ema": 0.8,
        "accumulate": 2,
        "min_snr_gamma": 5.0,
        "noise_offset": 0.1,
        "batch": 2,
        "noise_pairs": True,
        "objective": "appearance-debiased",
    },
}


@pytest.mark.parametrize("name", GOING_ON)
def test_three_steps_and_three_more_are_six_bit_for_bit(train_lora, options, files, name):
    without(name)
    changes = dict(GOING_ON[name])
    also = {key: changes.pop(key) for key in ("ema", "accumulate", "min_snr_gamma", "noise_offset") if key in changes}
    whole, expected = train_lora(steps=6, options=options(**also), **changes)
    train_lora(steps=3, options=options({"every": 3}, **also), **changes)
    assert files("*.state") == ["training_00001_step000003.state"]
    lora, record = train_lora(steps=6, options=options({"every": 3, "go_on": True}, **also), **changes)
    assert record.losses == expected.losses
    assert_same_lora(lora, whole)
    assert lora.metadata["animatediff.steps"] == "6"
    assert files("*.state") == ["training_00001_step000003.state", "training_00001_step000006.state"]


def test_after_a_stop_training_goes_on_where_it_was(train_lora, options, in_step, files):
    """With a learning rate that falls and one that rises: both are those of the whole training."""
    also = {"learning_rate_schedule": "cosine"}
    whole, expected = train_lora(steps=5, options=options(warmup_steps=2), **also)
    in_step(4, stop)
    train_lora(steps=5, options=options({"every": 2}, warmup_steps=2), **also)
    assert files("*.state")[-1] == "training_00001_step000003.state"  # the last step, whenever one is due
    lora, record = train_lora(steps=5, options=options({"go_on": True}, warmup_steps=2), **also)
    assert record.losses == expected.losses
    assert record.rates == expected.rates
    assert_same_lora(lora, whole)


@pytest.mark.parametrize("train", ["train_module", "train_adapter"])
def test_modules_and_adapters_go_on_too(request, options, train):
    run = request.getfixturevalue(train)

    def tensors(result):
        return result.model.state_dict() if train == "train_module" else result

    whole, expected = run(steps=4)
    run(steps=2, options=options({}))
    again, record = run(steps=4, options=options({"go_on": True}))
    assert record.losses == expected.losses
    for name, value in tensors(whole).items():
        assert torch.equal(tensors(again)[name], value), name


def test_a_training_that_is_done_has_nothing_to_go_on_with(train_lora, options):
    first, expected = train_lora(steps=2, options=options({}))
    again, record = train_lora(steps=2, options=options({"go_on": True}))
    assert record.losses == expected.losses
    assert_same_lora(again, first)


def test_without_a_checkpoint_training_begins_anew(train_lora, options, caplog):
    caplog.set_level("INFO")
    lora, _ = train_lora(steps=2, options=options({"go_on": True}))
    assert "no checkpoint yet" in caplog.text
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_a_longer_name_is_another_training(train_lora, options, files):
    train_lora(steps=2, options=options({"prefix": "training_of_foxes"}))
    _, record = train_lora(steps=3, options=options({"go_on": True, "every": 3}))
    assert record.steps == 3
    assert files("*.state") == ["training_00001_step000003.state", "training_of_foxes_00001_step000002.state"]


def test_a_checkpoint_that_was_cut_off_is_passed_over(train_lora, options, files, path, caplog):
    whole, _ = train_lora(steps=4)
    train_lora(steps=3, options=options({"every": 1}))
    last = path("training_00001_step000003.state")
    with open(last, "r+b") as file:
        file.truncate(os.path.getsize(last) // 2)
    lora, record = train_lora(steps=4, options=options({"every": 1, "go_on": True}))
    assert "cannot be read" in caplog.text
    assert record.steps == 4
    assert_same_lora(lora, whole)
    torch.load(last, weights_only=True)  # written anew


REFUSED_TO_GO_ON = [
    ({"optimizer": "Adam"}, "its optimizer is AdamW, but Adam is chosen"),
    ({"alpha": 8.0}, "its alpha is 4.0, but 8.0 is chosen"),
    ({"rank": 8}, "tensors are not those that are to be trained"),
    ({"rslora": True}, "its rslora is False, but True is chosen"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED_TO_GO_ON, ids=lambda value: str(value)[:30])
def test_what_cannot_be_gone_on_with_is_told(train_lora, training, options, changes, message, files):
    train_lora(steps=2, options=options({}))
    before = files("*")
    changes = dict(changes)
    also = {"rslora": changes.pop("rslora")} if "rslora" in changes else {}
    with pytest.raises(training("settings").TrainingFailed, match=message):
        train_lora(steps=4, options=options({"go_on": True}, **also), **changes)
    assert files("*") == before


def test_other_settings_are_told_and_trained_with(train_lora, options, caplog):
    train_lora(steps=2, options=options({}))
    _, record = train_lora(steps=4, learning_rate=5e-3, options=options({"go_on": True}))
    assert record.rates == [1e-2, 1e-2, 5e-3, 5e-3]
    assert "learning_rate 0.01 → 0.005" in caplog.text


# -- checkpoints --------------------------------------------------------------------------------------------------------


def test_checkpoints_are_whole_files_and_no_more_than_asked_for(train_lora, options, files, path, pack):
    lora, _ = train_lora(steps=5, options=options({"every": 1, "keep": 2, "clip": True}, ema=0.5))
    steps = ("training_00001_step000004", "training_00001_step000005")
    endings = (".safetensors", ".state", ".webp")
    assert files("*step*") == [f"{step}{ending}" for step in steps for ending in endings]
    assert set(files("*")) - set(files("*step*")) <= {"training_00001_log.csv", "training_00001_tensorboard"}
    # the weights are those that are handed on: the average
    saved = pack.submodule("lora.motion_lora").read_motion_lora(path(f"{steps[1]}.safetensors"))
    for name, pair in lora.pairs.items():
        for half, expected in zip(saved.pairs[name], pair, strict=True):
            torch.testing.assert_close(half.float(), expected, rtol=1e-3, atol=1e-4)
    with Image.open(path(f"{steps[1]}.webp")) as sample:
        assert sample.n_frames == 4
        assert sample.size == (32, 32)


def test_a_sample_is_decoded_where_there_is_a_vae(train_lora, options, path):
    class Vae:
        def decode(self, latents):
            assert latents.shape == (4, 4, 8, 8)
            return torch.rand(4, 64, 64, 3)

    train_lora(steps=2, options=options({"clip": True, "vae": Vae()}))
    with Image.open(path("training_00001_step000002.webp")) as sample:
        assert sample.size == (64, 64)


def test_a_sample_that_fails_does_not_end_the_training(train_lora, options, files, caplog):
    class Vae:
        def decode(self, latents):
            raise RuntimeError("no decoder")

    _, record = train_lora(steps=3, options=options({"every": 1, "clip": True, "vae": Vae()}))
    assert record.steps == 3
    assert caplog.text.count("A sample failed") == 1
    assert len(files("*.state")) == 3


@pytest.mark.parametrize("watched", [{}, {"preview_every": 1}])
def test_checkpoints_and_samples_change_nothing_about_the_training(train_lora, options, watched):
    plain, _ = train_lora(steps=3)
    lora, _ = train_lora(steps=3, options=options({"every": 1, "clip": True}), **watched)
    assert_same_lora(lora, plain)


def test_a_full_disk_keeps_the_last_checkpoint(train_lora, options, files, monkeypatch, caplog):
    save, calls = torch.save, []

    def full(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments, **keywords)

    monkeypatch.setattr(torch, "save", full)
    lora, record = train_lora(steps=4, options=options({"every": 1, "keep": 1}))
    assert record.steps == 4
    assert caplog.text.count("the disk is full") == 2
    assert "the last checkpoint is step 2" in caplog.text
    assert files("*step*") == ["training_00001_step000002.safetensors", "training_00001_step000002.state"]
    monkeypatch.undo()
    again, _ = train_lora(steps=4, options=options({"every": 1, "go_on": True}))
    assert_same_lora(again, lora)


def test_a_checkpoint_of_weights_that_give_nan_is_removed(train_lora, options, in_step, files):
    in_step(3, lambda loss: loss * float("nan"))
    _, record = train_lora(steps=5, options=options({"every": 1}))
    assert record.steps == 1
    assert files("*.state") == ["training_00001_step000001.state"]


@pytest.mark.usefixtures("nothing_unloaded")
def test_a_name_that_leads_elsewhere_is_told_before_anything_is_unloaded(train_lora, options):
    with pytest.raises(ValueError, match="leads out of the folder"):
        train_lora(options=options({"prefix": "../elsewhere"}))


def test_the_log_has_every_step(train_lora, options, path):
    train_lora(steps=3, options=options({"every": 2}))
    _, record = train_lora(steps=5, options=options({"every": 2, "go_on": True}))
    with open(path("training_00001_log.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["loss"]) for row in rows] == record.losses


def test_tensorboard_reads_the_event_log(train_lora, options, path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: pip install tensorboard"
    )
    _, record = train_lora(steps=3, options=options({}))
    found = event_accumulator.EventAccumulator(path("training_00001_tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(record.losses)


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


@pytest.mark.usefixtures("nothing_unloaded")
def test_held_out_clips_that_do_not_fit_are_told(train_lora, training, options, held_out):
    error = training("clips").TrainingDataError
    with pytest.raises(error, match="Held-out clip 1 has 3 frames"):
        train_lora(options=options(validation=held_out(frames=3)))


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

    def same_clip(self, clips, *arguments):
        batch = draw(self, 1, *arguments[:1], 0.0, torch.Generator().manual_seed(0))
        return type(batch)(batch.latents.repeat(clips, 1, 1, 1, 1), batch.conditionings * clips)

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
        torch.testing.assert_close(accumulated.pairs[name], pair, rtol=1e-3, atol=1e-4)


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
            assert "pip install" in str(error) or "NVIDIA" in str(error)
            continue
        # Prodigy begins with a millionth of the learning rate, and looks for its own in hundreds of steps
        enough = 1.0 if name == "Prodigy" else 0.995
        assert record.validation[20] < enough * record.validation[1], name
        learned.append(name)
    assert len(learned) >= 4


# -- the nodes ----------------------------------------------------------------------------------------------------------


def test_the_options_of_a_chain_come_together(pack, training, new_latents, positive):
    nodes = pack.submodule("nodes.training_options")
    learning = {"warmup_steps": 5, "ema": 0.9, "accumulate": 2, "min_snr_gamma": 5.0, "noise_offset": 0.1}
    (first,) = nodes.TrainingOptionsNode.execute(**learning, rslora=True, ranks="to_v: 8").result
    (second,) = nodes.TrainingCheckpoints.execute(
        filename_prefix="fox", every=10, keep=2, go_on=True, sample=False, prev_options=first
    ).result
    (third,) = nodes.TrainingValidation.execute(
        latents=new_latents(2), positive=[positive], every=[20], prev_options=[second]
    ).result
    assert {name: getattr(third, name) for name in learning} == learning
    assert (third.rslora, third.ranks) == (True, {"to_v": 8})
    assert third.checkpoints == training("settings").CheckpointSettings("fox", 10, 2, True, False, None)
    assert (len(third.validation.latents), third.validation.every) == (2, 20)
    assert first.checkpoints is None  # nodes' outputs are kept, and never altered


def test_training_nodes_take_their_options(pack, animated, new_latents, positive, negative, files):
    nodes = pack.submodule("nodes.training_options")
    (options,) = nodes.TrainingCheckpoints.execute(
        filename_prefix="fox", every=1, keep=1, go_on=False, sample=False
    ).result
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
    assert files("*.state") == ["fox_00001_step000002.state"]
