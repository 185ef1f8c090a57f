"""Merged motion models and extracted MotionLoRAs in sampler runs of tiny UNets."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

# What a LoRA can hold: weights of linear layers.
LINEAR = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "proj_in.weight", "proj_out.weight")
LINEAR += ("ff.net.0.proj.weight", "ff.net.2.weight")


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture(scope="module")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}


@pytest.fixture
def two(new_motion, new_motion_file, pack):
    """Two motion models that differ in their linear layers only."""
    start = safetensors.torch.load_file(new_motion_file(name="start"))
    path = new_motion_file(name="goal", seed=9)
    goal = {
        key: value if key.endswith(LINEAR) else start[key] for key, value in safetensors.torch.load_file(path).items()
    }
    safetensors.torch.save_file(goal, path)
    return new_motion(name="start"), pack.submodule("motion_models.files.motion_model").load_motion_model(path)


@pytest.fixture
def latents(nodes, new_model, sample):
    """The clip that a motion model makes, through the nodes."""

    def latents(motion_model, motion_lora=None):
        (applied,) = (
            nodes["ADE_ApplyAnimateDiffModelSimple"].execute(motion_model=motion_model, motion_lora=motion_lora).args
        )
        (model,) = (
            nodes["ADE_UseEvolvedSampling"]
            .execute(model=new_model(), beta_schedule="autoselect", m_models=applied)
            .args
        )
        return sample(model)

    return latents


def extracted(nodes, start, goal, rank=1000, **inputs):
    inputs = {"layers": "all linear layers", "clamp_quantile": 1.0, **inputs}
    return nodes["AnimateDiffExtractMotionLoRA"].execute(motion_model=start, goal=goal, rank=rank, **inputs).args


@pytest.mark.parametrize("saved", [None, "float32", "float16"])
def test_a_lora_of_full_rank_makes_the_other_models_clip(nodes, two, latents, folder, saved):
    start, goal = two
    loras, report = extracted(nodes, start, goal)
    assert report.startswith("100.00 % of the difference")
    if saved:
        folder("animatediff_motion_lora")
        nodes["AnimateDiffSaveMotionLoRA"].execute(motion_lora=loras, filename_prefix="extracted", dtype=saved)
        name = "extracted_00001_.safetensors"
        (loras,) = nodes["ADE_AnimateDiffLoRALoader"].execute(name=name, strength=1.0).args
    expected = latents(goal)
    assert relative(latents(start), expected) > 0.05
    # float16 has 11 bits: what it costs is the file's, not the extraction's
    assert relative(latents(start, loras), expected) < (1e-2 if saved == "float16" else 1e-3)


def test_more_rank_comes_nearer(nodes, two, latents):
    start, goal = two
    expected = latents(goal)
    errors = [relative(latents(start, extracted(nodes, start, goal, rank)[0]), expected) for rank in (1, 16, 64)]
    assert errors == sorted(errors, reverse=True)


def test_loras_merged_into_a_model_sample_as_they_do_beside_it(nodes, two, latents):
    start, goal = two
    loras, _ = extracted(nodes, start, goal, rank=4)
    expected = latents(start, loras)
    (merged,) = nodes["AnimateDiffMergeMotionLoRAsIntoModel"].execute(motion_model=start, motion_lora=loras).args
    assert relative(latents(merged), expected) < 1e-5
    assert relative(latents(start), expected) > 0.01
    assert not merged.patches
    # a merge takes an input with its weight patches, as it samples
    (applied,) = nodes["ADE_ApplyAnimateDiffModelSimple"].execute(motion_model=start, motion_lora=loras).args
    merge = nodes["AnimateDiffMergeMotionModels"]
    (same,) = merge.execute(motion_model_1=applied[0].patcher, motion_model_2=goal, weight=0.0).args
    assert relative(latents(same), expected) < 1e-5
    assert not start.patches


def test_a_strength_that_varies_cannot_be_merged_into_a_model(nodes, two):
    start, goal = two
    loras, _ = extracted(nodes, start, goal, rank=4, layers="attention")
    (varying,) = (
        nodes["AnimateDiffScheduleMotionLoRA"]
        .execute(motion_lora=loras, strengths="0: 1, 0.5: 0", interpolation="hold", frame_strengths="")
        .args
    )
    with pytest.raises(ValueError, match=r"strength of the MotionLoRA 'goal - start' varies, which weights cannot"):
        nodes["AnimateDiffMergeMotionLoRAsIntoModel"].execute(motion_model=start, motion_lora=varying)


def test_a_merge_samples_and_leaves_its_inputs_alone(nodes, two, latents):
    start, goal = two
    before = latents(start), latents(goal)
    merge = nodes["AnimateDiffMergeMotionModels"]
    (half,) = merge.execute(motion_model_1=start, motion_model_2=goal, weight=0.5).args
    result = latents(half)
    assert min(relative(result, each) for each in before) > 0.01
    assert torch.equal(latents(start), before[0])
    assert torch.equal(latents(goal), before[1])
    (ends,) = merge.execute(motion_model_1=start, motion_model_2=goal, weight=1.0).args
    assert relative(latents(ends), before[1]) < 1e-5


def test_merged_loras_do_what_the_chain_does(nodes, new_motion, new_lora_file, latents):
    motion_model = new_motion()
    load = nodes["ADE_AnimateDiffLoRALoader"]
    (one,) = load.execute(name=new_lora_file(motion_model, "one", seed=1), strength=0.8).args
    (chain,) = load.execute(name=new_lora_file(motion_model, "other", seed=2), strength=-0.4, prev_motion_lora=one).args
    (merged,) = nodes["AnimateDiffMergeMotionLoRAs"].execute(motion_lora=chain, rank=0).args
    assert len(merged) == 1
    expected = latents(motion_model, chain)
    assert relative(latents(motion_model, merged), expected) < 1e-5
    assert relative(latents(motion_model), expected) > 0.01
