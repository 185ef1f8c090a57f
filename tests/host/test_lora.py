"""MotionLoRAs in real sampler runs of tiny UNets, through the nodes."""

from __future__ import annotations

import logging
import os

import pytest
import safetensors.torch
import torch


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture
def load_lora(lora_nodes):
    def load(name, strength=1.0, previous=None):
        return lora_nodes.LoadMotionLora.execute(name=name, strength=strength, prev_motion_lora=previous).args[0]

    return load


@pytest.fixture
def schedule_lora(lora_nodes):
    def schedule(loras, strengths="", interpolation="hold", frame_strengths="", mask=None):
        node = lora_nodes.ScheduleMotionLora
        over_run = {"strengths": strengths, "interpolation": interpolation}
        return node.execute(motion_lora=loras, **over_run, frame_strengths=frame_strengths, mask=mask).args[0]

    return schedule


@pytest.fixture
def load_adapter(lora_nodes):
    def load(model, name, scale):
        return lora_nodes.LoadDomainAdapter.execute(model=model, lora_name=name, scale=scale).args[0]

    return load


@pytest.fixture
def with_lora(pack):
    """A MODEL that samples with a motion model and MotionLoRAs, through the Apply and Use Evolved Sampling nodes."""
    apply = pack.submodule("nodes.motion_models.apply").ApplyAnimateDiffModel
    use = pack.submodule("nodes.sampling.evolved").UseEvolvedSampling

    def make(model, motion_model, loras=None, start_percent=0.0, end_percent=1.0, previous=None):
        applied = apply.execute(
            motion_model=motion_model,
            start_percent=start_percent,
            end_percent=end_percent,
            motion_lora=loras,
            prev_m_models=previous,
        ).args[0]
        make.applied = applied
        return use.execute(model=model, beta_schedule="autoselect", m_models=applied).args[0]

    return make


@pytest.fixture
def merged_file(new_motion_file):
    """Write a motion model with LoRA files added to its weights by hand (an independent reader of the format)."""

    def merge(*files_and_strengths) -> str:
        path = new_motion_file(name="merged")
        tensors = safetensors.torch.load_file(path)
        for file, strength in files_and_strengths:
            lora = safetensors.torch.load_file(file)
            for key in [key for key in lora if ".down." in key]:
                delta = lora[key.replace(".down.", ".up.")] @ lora[key]
                target = key.replace("processor.", "").replace("_lora.down", "").replace("to_out.", "to_out.0.")
                tensors[target] += strength * delta
        safetensors.torch.save_file(tensors, path)
        return path

    return merge


def test_a_motion_lora_is_added_to_the_weights(
    pack, new_model, new_motion, animate, sample, load_lora, with_lora, new_lora_file, merged_file, folder
):
    motion_model = new_motion()
    one, other = new_lora_file(motion_model, "one"), new_lora_file(motion_model, "other", seed=8)
    files = folder("animatediff_motion_lora")
    merged = merged_file((os.path.join(files, one), 0.8), (os.path.join(files, other), -0.4))
    expected = sample(
        animate(new_model(), pack.submodule("motion_models.files.motion_model").load_motion_model(merged))
    )
    loras = load_lora(other, -0.4, previous=load_lora(one, 0.8))
    result = sample(with_lora(new_model(), motion_model, loras))
    plain = sample(animate(new_model(), motion_model))
    assert relative(plain, expected) > 1e-2
    assert relative(result, expected) < 1e-5


def test_runs_with_and_without_a_lora_do_not_see_each_other(
    new_model, new_motion, animate, sample, load_lora, schedule_lora, with_lora, new_lora_file
):
    model, motion_model = new_model(), new_motion()
    lora = load_lora(new_lora_file(motion_model))
    weights = {name: value.clone() for name, value in motion_model.model.state_dict().items()}
    without, with_it = animate(model, motion_model), with_lora(model, motion_model, lora)
    scheduled = with_lora(model, motion_model, schedule_lora(lora, "0: 1, 0.5: 0"))
    first = [sample(each) for each in (without, with_it, scheduled)]
    assert min(relative(first[0], first[1]), relative(first[1], first[2]), relative(first[0], first[2])) > 1e-3
    for each, expected in zip((scheduled, without, with_it, without), (first[2], *first[:2], first[0]), strict=True):
        assert torch.equal(sample(each), expected)
    assert all(torch.equal(value, weights[name]) for name, value in motion_model.model.state_dict().items())
    assert not motion_model.patches


def test_one_file_applied_twice_each_with_its_own_lora(
    new_model, new_motion, sample, load_lora, with_lora, new_lora_file, pack
):
    motion_model = new_motion()
    one, other = (load_lora(new_lora_file(motion_model, name, seed)) for name, seed in (("one", 7), ("other", 8)))
    with_lora(new_model(), motion_model, one)
    both = sample(with_lora(new_model(), motion_model, other, previous=with_lora.applied))
    # the same with two files' worth of networks
    second = pack.submodule("motion_models.files.motion_model").fresh_copy(motion_model)
    with_lora(new_model(), motion_model, one)
    expected = sample(with_lora(new_model(), second, other, previous=with_lora.applied))
    assert torch.equal(both, expected)
    with_lora(new_model(), motion_model, one)
    assert relative(sample(with_lora(new_model(), motion_model, previous=with_lora.applied)), expected) > 1e-3


@pytest.mark.parametrize("varying", ["0: 1", "linear", "frames", "mask"])
def test_a_schedule_that_stays_at_one_equals_the_weight_patch(
    new_model, new_motion, sample, load_lora, schedule_lora, with_lora, new_lora_file, varying
):
    motion_model = new_motion()
    lora = load_lora(new_lora_file(motion_model), 0.7)
    scheduled = {
        "0: 1": lambda: schedule_lora(lora, "0: 1"),
        "linear": lambda: schedule_lora(lora, "0: 1, 1: 1", "linear"),
        "frames": lambda: schedule_lora(lora, "0: 2", frame_strengths="0: 0.5"),
        "mask": lambda: schedule_lora(lora, mask=torch.ones(1, 32, 32)),
    }[varying]()
    assert scheduled[0] is not lora[0]
    assert not lora[0].strength.varies
    expected = sample(with_lora(new_model(), motion_model, lora))
    assert relative(sample(with_lora(new_model(), motion_model, scheduled)), expected) < 1e-5


@pytest.fixture
def denoised(sample):
    """What a MODEL predicts in one step of a run, so that steps do not depend on each other; and the step's sigma."""

    def predict(model, step: int, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
        seen = []

        def note(args):
            seen.append((args["denoised"], args["sigma"][0]))
            return args["denoised"]

        model = model.clone()
        model.set_model_sampler_post_cfg_function(note)
        sample(model, steps=steps, start_step=step, last_step=step + 1)
        return seen[0]

    return predict


def test_a_schedule_changes_the_strength_at_its_percent(
    new_model, new_motion, animate, denoised, load_lora, schedule_lora, with_lora, new_lora_file
):
    """As with the LoRA up to the percent, as without it from there."""
    motion_model = new_motion()
    lora = load_lora(new_lora_file(motion_model))
    scheduled = with_lora(new_model(), motion_model, schedule_lora(lora, "0: 1, 0.5: 0"))
    full, none = with_lora(new_model(), motion_model, lora), animate(new_model(), motion_model)
    half = float(scheduled.get_model_object("model_sampling").percent_to_sigma(0.5))
    early = []
    for step in range(5):
        result, sigma = denoised(scheduled, step)
        early.append(bool(sigma > half))
        like, unlike = (full, none) if early[-1] else (none, full)
        assert relative(result, denoised(like, step)[0]) < 1e-5
        assert relative(result, denoised(unlike, step)[0]) > 1e-3
    assert sorted(early, reverse=True) == early
    assert any(early)
    assert not all(early)


def test_a_linear_schedule_has_the_strength_of_its_percent(
    new_model, new_motion, denoised, load_lora, schedule_lora, with_lora, new_lora_file
):
    """A step in the middle of the run equals the constant strength there."""
    motion_model = new_motion()
    name = new_lora_file(motion_model)
    scheduled = with_lora(new_model(), motion_model, schedule_lora(load_lora(name), "0: 1, 1: 0", "linear"))
    result, sigma = denoised(scheduled, 2)
    strength = float(scheduled.get_model_object("model_sampling").timestep(sigma)) / 999
    assert 0.2 < strength < 0.8
    constant = with_lora(new_model(), motion_model, load_lora(name, strength))
    assert relative(result, denoised(constant, 2)[0]) < 1e-3


def test_no_lora_outside_the_percent_range_of_its_motion_model(
    new_model, new_motion, animate, sample, load_lora, schedule_lora, with_lora, new_lora_file
):
    motion_model = new_motion()
    lora = schedule_lora(load_lora(new_lora_file(motion_model)), "0: 1")
    result = sample(with_lora(new_model(), motion_model, lora, start_percent=1.0))
    assert torch.equal(result, sample(animate(new_model(), motion_model, start_percent=1.0)))


def test_those_scheduled_before_keep_their_schedule(load_lora, schedule_lora, new_motion, new_lora_file):
    name = new_lora_file(new_motion())
    first = schedule_lora(load_lora(name), "0: 1, 0.5: 0")
    chain = schedule_lora(load_lora(name, 0.5, previous=first), "0: 0, 0.5: 1")
    assert [applied.strength.schedule.points for applied in chain] == [
        ((0.0, 1.0), (0.5, 0.0)),
        ((0.0, 0.0), (0.5, 1.0)),
    ]
    assert [applied.strength.number for applied in chain] == [1.0, 0.5]


def test_context_windows_get_the_strengths_of_their_frames(
    pack, new_model, new_motion, load_lora, schedule_lora, with_lora, new_lora_file, sample, monkeypatch
):
    import comfy.context_windows as windows

    motion_model = new_motion()
    ramp = ", ".join(f"{frame}: {frame}" for frame in range(6))
    lora = schedule_lora(load_lora(new_lora_file(motion_model)), frame_strengths=ramp)
    run = pack.submodule("sampling.strength.in_run").StrengthInRun
    seen = []
    at = run.at

    def note(self, step, window):
        strength = at(self, step, window)
        seen.append((window, strength.at(1, 1, torch.zeros(1)).flatten().tolist()))
        return strength

    monkeypatch.setattr(run, "at", note)
    model = with_lora(new_model(), motion_model, lora)
    handler = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=2,
        context_stride=1,
        closed_loop=False,
        dim=0,
    )
    model.model_options["context_handler"] = handler
    windows.create_prepare_sampling_wrapper(model)
    # as many sigmas as frames: with any other number the host's windows fail in ComfyUI 0.3.75
    sample(model, frames=6, steps=5)
    # the second window begins at 2, or at 1 where the host puts an anchor in front
    assert {tuple(window[-4:]) for window, _ in seen} == {(0, 1, 2, 3), (2, 3, 4, 5)}
    assert all(strengths == window for window, strengths in seen)
    # the same windows, weighted in the same way, are ours
    handler.causal_window_fix = False
    cut = pack.submodule("sampling.windows.schedules").WindowOptions("standard_static", 4, 2)
    contexts = (pack.submodule("sampling.windows.context").Context(cut, "pyramid"),)
    use = pack.submodule("nodes.sampling.evolved").UseEvolvedSampling
    ours = use.execute(
        model=new_model(), beta_schedule="autoselect", m_models=with_lora.applied, context_options=contexts
    ).args[0]
    assert relative(sample(model, frames=6, steps=5), sample(ours, frames=6, steps=5)) < 1e-5


def test_a_mask_keeps_the_lora_to_its_part_of_the_clip(
    new_model, new_motion, animate, sample, load_lora, schedule_lora, with_lora, new_lora_file
):
    """Masked to the left half, the change is larger there (neighbours see it through the UNet's convolutions)."""
    motion_model = new_motion()
    mask = torch.zeros(1, 8, 16)
    mask[..., :8] = 1.0
    lora = load_lora(new_lora_file(motion_model, size=0.2))
    plain = sample(animate(new_model(), motion_model), steps=1, size=16)
    masked = sample(with_lora(new_model(), motion_model, schedule_lora(lora, mask=mask)), steps=1, size=16)
    change = (masked - plain).abs().mean((0, 1, 2))
    assert change[:8].mean() > 1.5 * change[8:].mean()
    nowhere = schedule_lora(lora, mask=torch.zeros(1, 8, 8))
    assert relative(sample(with_lora(new_model(), motion_model, nowhere), steps=1, size=16), plain) < 1e-6


def test_a_lora_for_another_kind_of_motion_model_is_refused(
    pack, new_motion, layouts, load_lora, schedule_lora, with_lora, new_model, new_lora_file
):
    mismatch = pack.submodule("motion_models.network.injection").MotionModelMismatch
    sd15, sdxl = new_motion(), new_motion(layouts["SDXL"], "sdxl")
    lora = load_lora(new_lora_file(sdxl, mismatched := "sdxl_lora"))
    for loras in (lora, schedule_lora(lora, "0: 1")):
        with pytest.raises(
            mismatch, match=rf"'{mismatched}' is for another kind of motion model: \d+ of its \d+ layers"
        ):
            with_lora(new_model(), sd15, loras)


def test_layers_outside_the_attention_have_one_strength_only(
    pack, new_motion, load_lora, schedule_lora, with_lora, new_model, folder, animate, sample
):
    mismatch = pack.submodule("motion_models.network.injection").MotionModelMismatch
    motion_model = new_motion()
    layer = "mid_block.motion_modules.0.temporal_transformer.proj_out"
    out, width = motion_model.model.get_submodule(layer).weight.shape
    generator = torch.Generator().manual_seed(5)
    tensors = {f"{layer}.lora_A.weight": torch.randn(2, width, generator=generator)}
    tensors |= {f"{layer}.lora_B.weight": torch.randn(out, 2, generator=generator)}
    safetensors.torch.save_file(tensors, os.path.join(folder("animatediff_motion_lora"), "proj.safetensors"))
    lora = load_lora("proj.safetensors")
    plain = sample(animate(new_model(), motion_model))
    assert relative(sample(with_lora(new_model(), motion_model, lora)), plain) > 1e-3
    with pytest.raises(
        mismatch, match=r"'proj' cannot be scheduled: 1 of its 1 layers are not in the attention \(mid_block"
    ):
        with_lora(new_model(), motion_model, schedule_lora(lora, "0: 1"))


def test_nothing_that_applies_is_an_error_and_a_missing_mid_block_a_warning(
    pack, new_motion, load_lora, with_lora, new_model, new_lora_file, folder, caplog, sample
):
    mismatch = pack.submodule("motion_models.network.injection").MotionModelMismatch
    v2, v3 = new_motion(), new_motion(name="without_mid", mid=False)
    name = new_lora_file(v2)
    with caplog.at_level(logging.WARNING):
        model = with_lora(new_model(), v3, load_lora(name))
    assert "8 of 168 layers of the MotionLoRA 'lora' have no place in the motion model 'without_mid'" in caplog.text
    assert "made for v2 motion models" in caplog.text
    files = folder("animatediff_motion_lora")
    tensors = safetensors.torch.load_file(os.path.join(files, name))
    without_mid = {key: value for key, value in tensors.items() if not key.startswith("mid_block")}
    assert len(tensors) - len(without_mid) == 2 * 8
    safetensors.torch.save_file(without_mid, os.path.join(files, "without_mid.safetensors"))
    assert torch.equal(sample(model), sample(with_lora(new_model(), v3, load_lora("without_mid.safetensors"))))

    only_mid = {key: value for key, value in tensors.items() if key.startswith("mid_block")}
    safetensors.torch.save_file(only_mid, os.path.join(files, "mid.safetensors"))
    with pytest.raises(mismatch, match="Nothing of the MotionLoRA 'mid' applies to the motion model"):
        with_lora(new_model(), v3, load_lora("mid.safetensors"))


def test_a_saved_lora_is_loaded_again(lora_nodes, new_motion, new_lora_file, load_lora, folder, caplog):
    files = folder("animatediff_motion_lora")
    chain = load_lora(new_lora_file(new_motion(), "one"))
    chain = load_lora(new_lora_file(new_motion(), "other", seed=8), 0.5, previous=chain)
    with caplog.at_level(logging.INFO):
        output = lora_nodes.SaveMotionLora.execute(
            motion_lora=chain, filename_prefix="right", dtype="float32", caption="moves right"
        )
    assert {"right_00001_.safetensors", "right_00002_.safetensors"} <= set(os.listdir(files))
    assert f"Saved {os.path.join(files, 'right_00002_.safetensors')}" in caplog.text
    assert "right_00001_.safetensors" in output.ui["text"][0]
    named = {"subfolder": "", "type": "animatediff_motion_lora"}
    assert output.ui["models"] == [{"filename": f"right_0000{number}_.safetensors", **named} for number in (1, 2)]
    for number, applied in enumerate(chain, 1):
        (again,) = load_lora(f"right_0000{number}_.safetensors")
        assert again.lora.metadata["animatediff.caption"] == "moves right"
        for layer, (down, up) in applied.lora.pairs.items():
            assert torch.equal(again.lora.pairs[layer][0], down)
            assert torch.equal(again.lora.pairs[layer][1], up)
    lora_nodes.SaveMotionLora.execute(motion_lora=chain[:1], filename_prefix="right", dtype="float16")
    assert "right_00003_.safetensors" in os.listdir(files)


# --- motion models ---


@pytest.mark.parametrize("layout", ["SD1.5", "unusual"])
def test_a_saved_motion_model_is_the_same_without_its_loras(
    lora_nodes, pack, new_model, new_motion, layouts, sample, with_lora, load_lora, new_lora_file, folder, layout
):
    files = folder("animatediff_models")
    motion_model = new_motion(layouts[layout], name="tiny")
    expected = sample(with_lora(new_model(layouts[layout]), motion_model))
    lora = load_lora(new_lora_file(motion_model))
    sample(with_lora(new_model(layouts[layout]), motion_model, lora))
    patcher = with_lora.applied[0].patcher
    lora_nodes.SaveMotionModel.execute(motion_model=patcher, filename_prefix="saved", dtype="as loaded")
    again = pack.submodule("motion_models.files.motion_model").load_motion_model(
        os.path.join(files, "saved_00001_.safetensors")
    )
    spec, before = again.model.spec, motion_model.model.spec
    assert (spec.version, spec.heads, spec.max_frames, spec.down, spec.up) == (
        before.version, before.heads, before.max_frames, before.down, before.up,
    )  # fmt: skip
    assert torch.equal(sample(with_lora(new_model(layouts[layout]), again)), expected)
