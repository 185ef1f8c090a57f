"""Motion Clone on tiny UNets: its shift of the prediction against one computed here, windows, and what must not change."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

FRAMES, SIZE, SEED, STRENGTH = 4, 8, 3, 0.1


@pytest.fixture
def clone(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}

    def put_on(model, reference, strength=STRENGTH, start_percent=0.0, end_percent=1.0, up_block=1):
        values = {"strength": strength, "start_percent": start_percent, "end_percent": end_percent}
        return (
            nodes["AnimateDiffMotionClone"]
            .execute(model=model, reference={"samples": reference}, up_block=up_block, **values)
            .result[0]
        )

    return put_on


@pytest.fixture
def small(layouts, new_model, new_motion, animate):
    """An animated MODEL with the smallest of the UNets."""
    return animate(new_model(layouts["unusual"]), new_motion(layouts["unusual"]))


def video(frames=FRAMES, size=SIZE) -> torch.Tensor:
    return torch.randn((frames, 4, size, size), generator=torch.Generator().manual_seed(11)) * 5


def noise(frames=FRAMES, size=SIZE) -> torch.Tensor:
    return torch.randn((frames, 4, size, size), generator=torch.Generator().manual_seed(SEED))


class Plain:
    """The energy and its gradient by plain PyTorch, read off the projections of the temporal attention."""

    def __init__(self, pack, model, motion_model, block: str, joint=False):
        self.pack, self.base, self.motion_model, self.joint = pack, model.model, motion_model.model, joint
        self.sampling = model.get_model_object("model_sampling")
        self.block = block

    def attention(self, x, sigma, cond) -> list[torch.Tensor]:
        """``(positions, heads, frames, frames)`` of each temporal attention of the block."""
        injection, call = (self.pack.submodule(f"motion_models.network.{name}") for name in ("injection", "call"))
        norm = self.pack.submodule("motion_models.network.group_norm").joint_group_norm
        unet, frames = self.base.diffusion_model, len(x)
        found: dict[str, dict[str, list[torch.Tensor]]] = {}
        handles = []
        for name, module in self.motion_model.named_modules():
            if name.startswith(self.block) and name.endswith(("to_q", "to_k")):
                parts = found.setdefault(name[:-5], {}).setdefault(name[-4:], [])
                handles.append(module.register_forward_hook(lambda _m, _i, out, parts=parts: parts.append(out)))
        options = {
            call.CALL_KEY: call.MotionCall((call.MotionInputs(),), frames),
            "patches": {"forward_timestep_embed_patch": [(injection.MotionSlot, injection.run_slot)]},
            "cond_or_uncond": [0],
        }
        before, self.base.model_sampling = self.base.model_sampling, self.sampling
        injection.inject(unet, [self.motion_model])
        try:
            with norm(unet, frames) if self.joint else nullcontext():
                context = cond[0][0].expand(frames, -1, -1)
                self.base.apply_model(x, sigma.expand(frames), c_crossattn=context, transformer_options=options)
        finally:
            injection.eject(unet)
            self.base.model_sampling = before
            for handle in handles:
                handle.remove()
        maps = []
        for of_name in found.values():
            q, k = (torch.cat(of_name[name]).unflatten(-1, (8, -1)).transpose(1, 2) for name in ("to_q", "to_k"))
            maps.append(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1))
        return maps

    def gradient(self, x, sigma, positive, negative, reference, window) -> torch.Tensor:
        """Of the energy, with respect to ``x (frames of the window, 4, height, width)`` at ``sigma``."""
        level = self.sampling.percent_to_sigma(0.6)
        of_clip = noise(*reference.shape[::2][:2])
        noisy = (reference * 0.18215 + of_clip * level)[window]
        with torch.no_grad():
            wanted = self.attention(noisy, torch.tensor(level), negative)
        x = x.clone().requires_grad_()
        energy = torch.zeros(())
        for own, other in zip(self.attention(x, sigma, positive), wanted, strict=True):
            best = other == other.amax(-1, keepdim=True)
            energy = energy + ((own - other) ** 2)[best].sum() / (own.shape[1] * own.shape[2])
        return torch.autograd.grad(energy, x)[0]


@pytest.fixture
def twins(pack, layouts, new_model, new_motion):
    """`twins(joint, v_prediction)`: a MODEL whose weights were made as the host makes them, and Plain on equal weights."""

    def new(joint=False, v_prediction=False):
        from comfy import model_base

        evolved = pack.submodule("sampling.evolved")
        motion = pack.submodule("sampling.motion.applied")

        def make():
            model, motion_model = new_model(layouts["unusual"]), new_motion(layouts["unusual"])
            if v_prediction:
                model.model.model_type = model_base.ModelType.V_PREDICTION
                model.model.model_sampling = model_base.model_sampling(model.model.model_config, model.model.model_type)
            applied = motion.apply(motion_model, motion.MotionSettings())
            return evolved.animate(model, applied, "autoselect", apply_v2_properly=not joint), motion_model

        with torch.inference_mode():
            model, _ = make()
        return model, Plain(pack, *make(), "up_blocks.1.", joint)

    return new


@pytest.mark.parametrize(
    "options",
    [{}, {"joint": True}, {"v_prediction": True}],
    ids=["noise", "joint group norm", "v"],
)
def test_the_prediction_moves_down_the_gradient(pack, twins, sample, clone, positive, negative, monkeypatch, options):
    """One step to sigma 0 gives the prediction: ``denoised - strength * sigma^2 * dg/dx``, whatever the CFG."""
    monkeypatch.setattr(pack.submodule("motion_models.network.temporal"), "ROWS_ON_CPU", 100)  # several parts
    model, plain = twins(**options)
    shifted, without = (sample(one, frames=FRAMES, steps=1) for one in (clone(model, video()), model))
    sigma = plain.sampling.sigma_max
    x = noise() * torch.sqrt(1 + sigma**2)
    gradient = plain.gradient(x, sigma, positive, negative, video(), slice(None))
    expected = STRENGTH * sigma**2 * gradient / 0.18215
    assert expected.abs().mean() > 0.01
    torch.testing.assert_close(without - shifted, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "settings", [{"strength": 0.0}, {"start_percent": 1.0}, {"end_percent": 0.0}], ids=["0", "later", "earlier"]
)
def test_without_effect_clips_are_as_without_the_node(small, sample, clone, settings):
    assert torch.equal(sample(clone(small, video(), **settings), denoise=0.9), sample(small, denoise=0.9))


def test_one_frame_has_no_motion(small, sample, clone):
    assert torch.equal(sample(clone(small, video(1)), frames=1), sample(small, frames=1))


def test_runs_one_after_another_do_not_see_each_other(small, sample, clone):
    def left_over() -> list[str]:
        return [name for name, module in small.model.named_modules() if "forward" in module.__dict__]

    cloned = clone(small, video())
    plain, first = sample(small), sample(cloned)
    assert not left_over()
    assert torch.equal(sample(small), plain)
    assert torch.equal(sample(cloned), first)
    assert not torch.allclose(first, plain, atol=1e-2)
    assert all(parameter.grad is None for parameter in small.model.parameters())


def test_another_reference_gives_another_clip(small, sample, clone):
    assert not torch.allclose(sample(clone(small, video())), sample(clone(small, video().flip(0))), atol=1e-2)


def test_part_of_the_schedule(small, sample, clone):
    """From half on: the first step is as without it, the last is not."""
    clips = {}
    for name, model in {"plain": small, "half": clone(small, video(), start_percent=0.5)}.items():
        clips[name] = [sample(model, steps=4, last_step=last, force_full_denoise=False) for last in (1, 4)]
    assert torch.equal(clips["plain"][0], clips["half"][0])
    assert not torch.equal(clips["plain"][1], clips["half"][1])


def test_one_call_or_two_for_positive_and_negative(small, sample, clone, monkeypatch):
    model = clone(small, video())
    together = sample(model, steps=1)
    monkeypatch.setattr(model.model, "memory_required", lambda *_args, **_kwargs: 1e30)
    torch.testing.assert_close(sample(model, steps=1), together, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("own", [True, False], ids=["Context Options", "the host's Context Windows"])
def test_windows_are_compared_with_their_frames_of_the_reference(pack, twins, sample, clone, positive, negative, own):
    model, plain = twins()
    windows = [slice(0, 4), slice(2, 6)]
    if own:
        schedules, context = (pack.submodule(f"sampling.windows.{name}") for name in ("schedules", "context"))
        run, in_run = pack.submodule("sampling.animate"), pack.submodule("sampling.windows.in_run")
        options = (context.Context(schedules.WindowOptions("standard_static", 4, 2, 1, False), "flat"),)
        features = pack.submodule("sampling.run").features_of(model)
        model = run.with_features(
            model, [in_run.Windows(options) if isinstance(one, in_run.Windows) else one for one in features]
        )
    else:
        from comfy import context_windows

        model.model_options["context_handler"] = handler = context_windows.IndexListContextHandler(
            context_windows.get_matching_context_schedule("standard_static"),
            context_windows.get_matching_fuse_method("flat"),
            context_length=4,
            context_overlap=2,
        )
        handler.causal_window_fix = False
    reference = video(6)
    shifted, without = (sample(one, frames=6, steps=1) for one in (clone(model, reference), model))
    sigma = plain.sampling.sigma_max
    x = noise(6) * torch.sqrt(1 + sigma**2)
    total, count = torch.zeros_like(x), torch.zeros(6, 1, 1, 1)
    for window in windows:
        total[window] += plain.gradient(x[window], sigma, positive, negative, reference, window)
        count[window] += 1
    expected = STRENGTH * sigma**2 * total / count / 0.18215
    torch.testing.assert_close(without - shifted, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_prompts_for_parts_of_the_picture_are_left_out(small, sample, clone, positive, negative, new_cond):
    """A prompt for an area is no whole clip; the one for the whole picture guides."""
    of_area = new_cond(4, area=(4, 4, 0, 0), strength=1.0)
    model = clone(small, video())
    assert torch.equal(
        sample(model, conds=(of_area, negative), steps=2), sample(small, conds=(of_area, negative), steps=2)
    )
    both = [*positive, *of_area]
    assert not torch.allclose(
        sample(model, conds=(both, negative), steps=2), sample(small, conds=(both, negative), steps=2), atol=1e-2
    )


def test_with_what_else_changes_the_unet(pack, layouts, new_model, new_motion, animate, sample, clone):
    """Masks, two motion models, UniCtrl and a ControlNet, all made as the host makes them."""
    from comfy.patcher_extension import WrappersMP

    def controlled(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        residual = torch.full((len(x), 96, 4, 4), 0.5)
        return executor(x, t, c_concat, c_crossattn, {"middle": [residual]}, transformer_options, **kwargs)

    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}
    values = {"strength": 1.0, "motion_end_percent": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    with torch.inference_mode():
        model = new_model(layouts["unusual"])
        both = (new_motion(layouts["unusual"]), new_motion(layouts["unusual"], name="other", seed=5))
        model = animate(model, *both, scale=torch.rand(1, SIZE, SIZE) + 0.5, effect=torch.rand(1, SIZE, SIZE))
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", controlled)
        (model,) = nodes["AnimateDiffUniCtrl"].execute(model=model, **values).result
        cloned = clone(model, video())
    plain, first = sample(model), sample(cloned)
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, plain, atol=1e-2)
    assert torch.equal(sample(cloned), first)


def test_stop_is_heeded(small, sample, clone):
    from comfy import model_management

    model_management.interrupt_current_processing(True)
    with pytest.raises(model_management.InterruptProcessingException):
        sample(clone(small, video()))
    model_management.interrupt_current_processing(False)


def test_references_of_other_sizes_are_refused(small, sample, clone):
    with pytest.raises(ValueError, match=r"has 5 frames with latents of 8 x 8, but the clip has 4 frames .*batch_size"):
        sample(clone(small, video(5)))
    with pytest.raises(
        ValueError, match=r"latents of 16 x 16, .* scale them to the size of the clip before VAE Encode"
    ):
        sample(clone(small, video(size=16)))


def test_models_without_motion_model_are_refused(new_model, layouts, pack, sample, clone):
    model = new_model(layouts["unusual"])
    with pytest.raises(ValueError, match="Connect it behind Use Evolved Sampling, with a motion model"):
        sample(clone(model, video()))
    with pytest.raises(ValueError, match="Connect it behind Use Evolved Sampling, with a motion model"):
        sample(clone(pack.submodule("sampling.evolved").animate(model, (), "autoselect"), video()))


def test_views_and_context_ref_are_refused(pack, layouts, new_model, new_motion, sample, clone):
    schedules, context = (pack.submodule(f"sampling.windows.{name}") for name in ("schedules", "context"))
    motion, extras = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.context_extras.extras")
    ref = pack.submodule("sampling.context_extras.context_ref").ContextRef()
    windows = schedules.WindowOptions("standard_static", 4, 2, 1, False)
    views = context.ViewOptions(schedules.WindowOptions("standard_static", 2, 1, 1, False), "flat")
    for change, message in (
        ({"views": views}, "Remove the View Options"),
        ({"extras": extras.ContextExtras(context_ref=ref)}, "Remove ContextRef"),
    ):
        contexts = (context.Context(windows, "flat", **change),)
        applied = motion.apply(new_motion(layouts["unusual"]), motion.MotionSettings())
        model = pack.submodule("sampling.evolved").animate(
            new_model(layouts["unusual"]), applied, "autoselect", contexts
        )
        with pytest.raises(ValueError, match=message):
            sample(clone(model, video(6)), frames=6)


def test_compiled_models_are_refused(small, sample, clone):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model = TorchCompileModel.execute(clone(small, video()), "eager").result[0]
    with pytest.raises(ValueError, match="Take TorchCompileModel off the MODEL, or Motion Clone"):
        sample(model)


def test_easycache_is_refused(small, sample, clone):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = EasyCacheNode.execute(clone(small, video()), 0.2, 0.15, 0.95, False).result[0]
    with pytest.raises(ValueError, match=r"Remove EasyCache .* or Motion Clone"):
        sample(model)
