"""Nodes of ComfyUI that remember something between UNet calls or set what we set, together with context windows."""

from __future__ import annotations

import logging

import pytest
import torch


@pytest.fixture
def batched(pack, new_model, new_motion):
    """A MODEL whose clips are cut into windows of 4 frames that share none."""
    windows = pack.submodule("sampling.windows.schedules")
    context = pack.submodule("sampling.windows.context").Context(windows.WindowOptions("batched", 4), "flat")
    motion = pack.submodule("sampling.motion.applied")
    applied = motion.apply(new_motion(), motion.MotionSettings())
    return lambda model: pack.submodule("sampling.evolved").animate(model, applied, "autoselect", (context,))


@pytest.fixture
def sample_frames(positive, negative):
    """`sample_frames(model, frames)`: those frames of one clip, whose noise does not depend on what else is sampled."""
    import comfy.sample

    def run(model, frames, steps=8, cfg=1.0):
        noise = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(3))[frames]
        with torch.inference_mode():
            return comfy.sample.sample(
                model,
                noise,
                steps,
                cfg,
                "euler",
                "normal",
                positive,
                negative,
                torch.zeros_like(noise),
                disable_pbar=True,
                seed=3,
            )

    return run


@pytest.fixture
def easycache(host_path):
    from comfy_extras.nodes_easycache import EasyCacheNode

    return lambda model, threshold=0.5: EasyCacheNode.execute(model, threshold, 0.15, 0.95, False).result[0]


def unet_calls(model, monkeypatch) -> list[int]:
    """The batch sizes of the UNet's calls, filled while it samples."""
    found = []
    unet = model.model.diffusion_model
    forward = unet._forward
    monkeypatch.setattr(
        unet, "_forward", lambda x, *args, **kwargs: (found.append(len(x)), forward(x, *args, **kwargs))[1]
    )
    return found


@pytest.mark.parametrize("cfg", [1.0, 4.0], ids=["positive only", "positive and negative"])
@pytest.mark.parametrize("frames", [8, 11], ids=["even", "uneven"])
@pytest.mark.parametrize("after", [True, False], ids=["EasyCache after ours", "EasyCache before ours"])
def test_easycache_skips_and_equals_each_window_alone(
    batched, easycache, new_model, sample_frames, monkeypatch, frames, cfg, after
):
    model = new_model()
    cached = easycache(batched(model)) if after else batched(easycache(model))
    calls = unet_calls(model, monkeypatch)
    together = sample_frames(cached, list(range(frames)), cfg=cfg)
    made = len(calls)
    alone = [list(range(i, min(i + 4, frames))) for i in range(0, frames, 4)]
    expected = torch.cat([sample_frames(cached, window, cfg=cfg) for window in alone])
    assert len(calls) == 2 * made, "the same steps are skipped"
    assert made < 8 * len(alone), "none is skipped"
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)


def test_easycache_forgets_between_runs(batched, easycache, new_model, sample_frames):
    cached = easycache(batched(new_model()))
    first = sample_frames(cached, list(range(8)))
    sample_frames(cached, list(range(4, 16)))
    assert torch.equal(sample_frames(cached, list(range(8))), first)


def test_the_log_tells_how_many_steps_are_skipped(batched, easycache, new_model, sample_frames, monkeypatch, caplog):
    model = new_model()
    calls = unet_calls(model, monkeypatch)
    with caplog.at_level(logging.INFO):
        sample_frames(easycache(batched(model)), list(range(8)))
    skipped = 8 - len(calls) // 2  # of eight steps with two windows each
    assert skipped
    assert [record.message for record in caplog.records if f"EasyCache - skipped {skipped}/8" in record.message]


def test_lazycache_looks_at_the_whole_clip(batched, new_model, sample_frames, monkeypatch, caplog):
    from comfy_extras.nodes_easycache import LazyCacheNode

    model = new_model()
    calls = unet_calls(model, monkeypatch)
    with caplog.at_level(logging.INFO):
        sample_frames(LazyCacheNode.execute(batched(model), 5.0, 0.15, 0.95, False).result[0], list(range(8)))
    skipped = 8 - len(calls) // 2
    assert skipped
    assert [record.message for record in caplog.records if f"LazyCache - skipped {skipped}/8" in record.message]


def test_self_attention_guidance_in_windows_is_refused(batched, new_model, sample_frames, monkeypatch):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    model = new_model()
    guided = SelfAttentionGuidance.execute(batched(model), 0.5, 2.0).result[0]
    calls = unet_calls(model, monkeypatch)
    with pytest.raises(ValueError, match=r"Self-Attention Guidance remembers .* Remove Self-Attention Guidance"):
        sample_frames(guided, list(range(8)), cfg=4.0)
    assert not calls


def test_one_line_says_which_windows_count(batched, new_model, sample_frames, caplog):
    import comfy.context_windows

    model = batched(new_model()).clone()
    schedule = comfy.context_windows.get_matching_context_schedule("standard_static")
    fuse = comfy.context_windows.get_matching_fuse_method("pyramid")
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        context_schedule=schedule, fuse_method=fuse, context_length=4, context_overlap=1, dim=0
    )
    with caplog.at_level(logging.WARNING):
        sample_frames(model, list(range(8)), steps=1)
    (line,) = [record.message for record in caplog.records if "Context Windows" in record.message]
    assert "ComfyUI's windows of 4 frames count, and ours are not used" in line


def test_a_schedule_of_a_node_before_that_has_no_effect_is_told(animate, new_model, new_motion, caplog):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = ModelSamplingDiscrete().patch(new_model(), "v_prediction", True)[0]
    with caplog.at_level(logging.WARNING):
        animated = animate(model, new_motion())
        assert [r.message for r in caplog.records if "ModelSamplingDiscrete" in r.message]
        caplog.clear()
        animate(model, new_motion(), beta_schedule="use existing")
        animate(animated, new_motion())  # what is replaced is ours
    assert not [r.message for r in caplog.records if "ModelSamplingDiscrete" in r.message]


def test_train_lora_on_an_animated_model_is_refused(animate, new_model, new_motion, positive, host_path):
    """The host's training gives single pictures to the UNet, and motion models would join them."""
    from comfy_extras.nodes_train import TrainGuider

    class NoSampler:
        def sample(self, *args, **kwargs):
            raise AssertionError("the training began")

    guider = TrainGuider(animate(new_model(), new_motion()))
    guider.set_conds(positive)
    latents = torch.zeros(2, 4, 8, 8)
    with pytest.raises(ValueError, match=r"Train LoRA takes single pictures.* Connect the MODEL as it was before"):
        guider.sample(latents, latents, NoSampler(), torch.tensor([1.0, 0.0]), seed=0)


@pytest.mark.parametrize(
    "module", ["comfy_extras.nodes_sag", "/ComfyUI/comfy_extras/nodes_sag", r"C:\\ComfyUI\\comfy_extras\\nodes_sag"]
)
def test_extra_nodes_are_known_however_the_host_loaded_them(pack, module):
    """A server loads them by path, and their module is called by it."""
    is_from = pack.submodule("host.extra_nodes").is_from
    assert is_from(type("Loaded", (), {"__module__": module}), "nodes_sag")
    assert not is_from(type("Loaded", (), {"__module__": module}), "nodes_train")
