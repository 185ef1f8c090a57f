"""Advanced-ControlNet's side of the contract (docs/behaviour.md, "Other packs"), played by a stand-in."""

from __future__ import annotations

import copy

import pytest
import torch

FRAMES, SIZE = 8, 8
LAYOUT = {
    "channel_mult": (1, 2),
    "num_res_blocks": [2, 2],
    "transformer_depth": [1, 1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
}
HALVES = (list(range(4)), list(range(4, 8)))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


NOISE, HINTS = random(FRAMES, 4, SIZE, SIZE, seed=3), random(FRAMES, 3, 64, 64, seed=20).sigmoid()


class AdvancedControl:
    """A ControlNet that finds the frames of a window by itself."""

    ACN_VERSION = 10002
    sub_idxs = None
    extra_hooks = None

    def __init__(self, control):
        self.control = control
        self.hints = control.cond_hint_original
        self.previous_controlnet = None
        self.multigpu_clones = {}
        self.calls = []

    def get_control(self, x, t, cond, batched_number, transformer_options):
        params = transformer_options["ad_params"]
        frames = params["sub_idxs"] or list(range(params["full_length"]))
        self.calls.append(frames)
        of_window = copy.copy(self.control)
        of_window.set_cond_hint(self.hints[frames])
        of_window.cond_hint = None
        return self.run(
            of_window, (x, t, cond, batched_number, transformer_options), len(frames), params["full_length"]
        )

    def run(self, control, arguments, frames: int, full_length: int):
        return control.get_control(*arguments)

    def pre_run(self, model, percent_to_timestep):
        self.control.pre_run(model, percent_to_timestep)

    def cleanup(self):
        self.control.cleanup()

    def get_models(self):
        return self.control.get_models()

    def get_extra_hooks(self):
        return []

    def inference_memory_requirements(self, dtype):
        return 0


class SparseControl(AdvancedControl):
    """SparseCtrl: with motion modules of the animation pack in its down blocks."""

    def __init__(self, control, tensors: dict, effect: float = 1.0):
        import comfy.hooks

        super().__init__(control)
        theirs = getattr(comfy.hooks, "__DINKLINK")["ADE"]
        assert theirs["version"] == 10000
        info = theirs["AnimateDiffInfo"]("SD1.5", "AnimateDiff", "v3", "sparse.ckpt")
        kwargs = {"ops": None, "get_unet_func": lambda wrapper, patcher: patcher.model}
        self.motion = theirs["AnimateDiffModel"](mm_state_dict=tensors, mm_info=info, init_kwargs=kwargs)
        self.motion.load_state_dict(tensors, strict=True)
        self.motion.to(torch.float32)
        cpu = torch.device("cpu")
        self.patcher = theirs["create_MotionModelPatcher"](self.motion, cpu, cpu)
        self.effect = effect

    def run(self, control, arguments, frames: int, full_length: int):
        self.motion.set_video_length(frames, full_length)
        self.motion.set_scale(1.0)
        self.motion.set_effect(self.effect)
        self.motion.inject(control.control_model_wrapped)
        try:
            return control.get_control(*arguments)
        finally:
            self.motion.eject(control.control_model_wrapped)

    def cleanup(self):
        super().cleanup()
        self.motion.cleanup()

    def get_models(self):
        return [*super().get_models(), self.patcher]


@pytest.fixture
def control_net(host_path):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    network = comfy.cldm.cldm.ControlNet(
        image_size=8,
        in_channels=4,
        model_channels=32,
        hint_channels=3,
        num_heads=4,
        use_spatial_transformer=True,
        context_dim=16,
        legacy=False,
        operations=comfy.ops.disable_weight_init,
        **LAYOUT,
    )
    for i, parameter in enumerate(network.parameters()):
        fan = parameter[0].numel() if parameter.ndim > 1 else 400
        parameter.data = 0.5 * random(*parameter.shape, seed=i) * fan**-0.5
    network.eval().requires_grad_(False)

    def make(hints):
        return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu")).copy().set_cond_hint(hints)

    make.network = network
    return make


@pytest.fixture
def sparse_tensors() -> dict[str, torch.Tensor]:
    """The temporal tensors of a SparseCtrl file: one attention block, down blocks only."""
    tensors = {}
    for level, c in enumerate((32, 64)):
        for module in (0, 1):
            shapes = {
                "norm": (c,),
                "proj_in": (c, c),
                "proj_out": (c, c),
                "transformer_blocks.0.norms.0": (c,),
                "transformer_blocks.0.attention_blocks.0.to_out.0": (c, c),
                "transformer_blocks.0.ff.net.0.proj": (8 * c, c),
                "transformer_blocks.0.ff.net.2": (c, 4 * c),
                "transformer_blocks.0.ff_norm": (c,),
            }
            prefix = f"down_blocks.{level}.motion_modules.{module}.temporal_transformer."
            for name, shape in shapes.items():
                tensors[f"{prefix}{name}.weight"] = random(*shape, seed=len(tensors)) * shape[-1] ** -0.5
                tensors[f"{prefix}{name}.bias"] = torch.zeros(shape[0])
            for name in ("to_q", "to_k", "to_v"):
                key = f"{prefix}transformer_blocks.0.attention_blocks.0.{name}.weight"
                tensors[key] = random(c, c, seed=len(tensors)) * c**-0.5
            tensors[f"{prefix}transformer_blocks.0.attention_blocks.0.pos_encoder.pe"] = random(
                1, 32, c, seed=len(tensors)
            )
    return tensors


@pytest.fixture
def animated(pack, new_model, new_motion):
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    motion_model = new_motion(LAYOUT)

    def make(schedule: str | None = "batched", length=4, base=None, **changes):
        contexts = ()
        if schedule is not None:
            contexts = (options.Context(windows.WindowOptions(schedule, length), "flat", **changes),)
        applied = motion.apply(motion_model, motion.MotionSettings())
        return animate(base or new_model(LAYOUT), applied, "use existing", contexts)

    return make


@pytest.fixture
def acn(monkeypatch, host_path):
    """The stand-in installed. Its wrapper turns the host's ControlNets into its own for the run."""
    import comfy.hooks
    from comfy.patcher_extension import WrappersMP

    runs = []

    def outer_sample(executor, *args, **kwargs):
        guider = executor.class_obj
        params = guider.model_patcher.get_attachment("ADE_params")
        runs.append(params.context_options.context_length)
        assert params.context_options.extras.context_ref is None
        for entries in guider.conds.values():
            for entry in entries:
                if params.context_options.context_length and "control" in entry:
                    entry["control"] = AdvancedControl(entry["control"])
        return executor(*args, **kwargs)

    entry = {
        "version": 10002,
        "create_outer_sample_wrapper": (WrappersMP.OUTER_SAMPLE, "ACN_outer_sample_wrapper", outer_sample),
    }
    shared = getattr(comfy.hooks, "__DINKLINK")
    monkeypatch.setitem(shared, "ACN", entry)
    return runs


def sampled(model, conds, noise=NOISE):
    import comfy.samplers

    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([14.6146, 3.0, 0.0])
    with torch.inference_mode():
        return comfy.samplers.sample(
            model,
            noise,
            *conds,
            4.0,
            torch.device("cpu"),
            sampler,
            sigmas,
            latent_image=torch.zeros_like(noise),
            disable_pbar=True,
        )


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_the_pack_is_in_the_shared_dictionary(pack):
    import comfy.hooks

    assert set(getattr(comfy.hooks, "__DINKLINK")["ADE"]) == {
        "version",
        "create_MotionModelPatcher",
        "AnimateDiffModel",
        "AnimateDiffInfo",
    }


def test_its_wrapper_runs_inside_ours_and_only_for_windows(acn, animated, new_cond, control_net):
    conds = [new_cond(i, control=control_net(HINTS)) for i in (1, 2)]
    ours = sampled(animated(), conds)
    assert acn == [4]
    acn.clear()
    plain = animated(None)
    assert plain.get_attachment("ADE_params").context_options.context_length is None
    sampled(plain, conds)
    assert acn == []
    for half in HALVES:
        alone = [new_cond(i, control=control_net(HINTS[half])) for i in (1, 2)]
        close(ours[half], sampled(plain, alone, NOISE[half]))


def test_applied_again_its_wrapper_is_there_once_and_behind_ours(acn, animated):
    first = animated()
    again = animated(base=first)
    for model in (first, again):
        assert list(model.wrappers["outer_sample"]) == ["AnimateDiff", "ACN_outer_sample_wrapper"]
        assert all(len(wrappers) == 1 for wrappers in model.wrappers["outer_sample"].values())
    without = animated(None, base=again)
    assert list(without.wrappers["outer_sample"]) == ["AnimateDiff"]


def test_without_it_nothing_of_it_is_on_the_model(animated):
    model = animated()
    assert list(model.wrappers["outer_sample"]) == ["AnimateDiff"]
    assert model.get_attachment("ADE_params").context_options.context_length == 4


def test_its_own_control_nets_read_their_frames(animated, new_cond, control_net):
    control = AdvancedControl(control_net(HINTS))
    clip = sampled(animated(), [new_cond(i, control=control) for i in (1, 2)])
    assert control.calls == [*HALVES, *HALVES]
    for half in HALVES:
        alone = [new_cond(i, control=control_net(HINTS[half])) for i in (1, 2)]
        close(clip[half], sampled(animated(None), alone, NOISE[half]))


def test_a_chain_of_its_own_and_the_hosts(pack, control_net):
    """Told each time, as the window of one that finds its frames itself is a state of the object."""
    controls = pack.submodule("sampling.windows.conditioning").WindowedControls()
    hints = torch.arange(8.0).view(8, 1, 1, 1)
    first, told, last = control_net(hints), AdvancedControl(control_net(hints)), control_net(hints)
    told.previous_controlnet = first
    last.set_previous_controlnet(told)
    for _ in range(2):
        controls.next_call()
        for window in HALVES:
            copied = controls.for_window(last, window, FRAMES)
            assert copied.previous_controlnet is told
            assert told.previous_controlnet.cond_hint_original.flatten().tolist() == window
    controls.restore()
    assert told.previous_controlnet is first


def test_sparse_control_in_windows(animated, new_cond, control_net, sparse_tensors):
    names = list(control_net.network.state_dict())
    control = SparseControl(control_net(HINTS), sparse_tensors)
    clip = sampled(animated(), [new_cond(i, control=control) for i in (1, 2)])
    assert list(control_net.network.state_dict()) == names
    for half in HALVES:
        alone = SparseControl(control_net(HINTS[half]), sparse_tensors)
        close(clip[half], sampled(animated(None), [new_cond(i, control=alone) for i in (1, 2)], NOISE[half]))
    still = SparseControl(control_net(HINTS), sparse_tensors, effect=0.0)
    without = sampled(animated(), [new_cond(i, control=still) for i in (1, 2)])
    close(without, sampled(animated(), [new_cond(i, control=AdvancedControl(control_net(HINTS))) for i in (1, 2)]))
    assert not torch.allclose(clip, without, rtol=1e-2, atol=1e-2)


def test_scale_and_clean_up(pack, sparse_tensors, control_net):
    control = SparseControl(control_net(HINTS), sparse_tensors)
    motion, patcher = control.motion, control.control.control_model_wrapped
    x = random(2 * 4, 32, SIZE, SIZE)
    motion.inject(patcher)
    layer = next(layer for layer in patcher.model.input_blocks[1] if type(layer).__name__ == "ControlMotionSlot")
    motion.set_video_length(4, 8)
    plain = layer(x)
    assert not torch.allclose(plain, layer(x.flip(0)).flip(0))  # frames have places
    motion.set_scale(0.0)
    assert not torch.allclose(layer(x), plain)
    motion.cleanup()
    assert torch.equal(layer(x), plain)
    with pytest.raises(ValueError, match="got 7 pictures, which are no whole clips of 4 frames"):
        layer(x[:7])
    motion.eject(patcher)
    assert len(patcher.model.input_blocks[1]) == 2


class ReferenceControl:
    """The object with which Advanced-ControlNet does ContextRef; notes what it is told."""

    def __init__(self, mode=None, runs=True):
        self.mode, self.runs, self.told = mode, runs, []
        self.contextref_cond_idx = -1

    def prepare_current_timestep(self, *args):
        self.told.append(("step", float(args[0][0]), len(args)))

    def should_run(self):
        return self.runs

    def get_contextref_mode_replace(self):
        return self.mode


@pytest.fixture
def acn_reference(acn, monkeypatch):
    """`acn_reference(*objects)`: its wrapper puts these into the run, and notes what its attention would see."""
    import comfy.hooks
    from comfy.patcher_extension import WrappersMP

    def install(*objects, version=10002):
        seen = {"windows": [], "cleaned": 0, "read": []}

        def clean_up():
            seen["cleaned"] += 1

        def outer_sample(executor, *args, **kwargs):
            guider = executor.class_obj
            reference = guider.model_patcher.get_attachment("ADE_params").context_options.extras.context_ref
            tune, keyframes = reference.tune.create_dict(), reference.keyframe.create_list_of_dicts()
            seen["read"].append((reference.version, tune, keyframes, reference.strength, reference.mask))
            options = guider.model_options["transformer_options"]
            guider.model_options = {
                **guider.model_options,
                "transformer_options": {
                    **options,
                    "contextref_control_list_all": list(objects),
                    "contextref_clean_func": clean_up,
                },
            }
            return executor(*args, **kwargs)

        def unet(apply, given):
            options = given["c"]["transformer_options"]
            seen["windows"].append(
                (options.get("contextref_machine_state"), options["ad_params"]["sub_idxs"], tuple(options["uuids"]))
            )
            for one in objects:
                assert one.contextref_cond_idx == 0
                one.contextref_cond_idx = 5
            return apply(given["input"], given["timestep"], **given["c"])

        entry = {
            "version": version,
            "create_outer_sample_wrapper": (WrappersMP.OUTER_SAMPLE, "ACN_outer_sample_wrapper", outer_sample),
        }
        monkeypatch.setitem(getattr(comfy.hooks, "__DINKLINK"), "ACN", entry)
        return seen, unet

    return install


@pytest.fixture
def referring(pack, animated):
    """A MODEL with windows and ContextRef."""
    extras = pack.submodule("sampling.context_extras.extras")
    reference = pack.submodule("sampling.context_extras.context_ref")

    def make(**asked):
        asked = {"end_percent": 1.0, **asked}
        return animated(extras=extras.ContextExtras(context_ref=reference.ContextRef(**asked)))

    return make


def test_its_context_ref_is_told_what_each_window_does(pack, acn_reference, referring, animated, new_cond):
    """Its objects do the work then, and ours leaves every bit alone."""
    modes, reference = (pack.submodule(f"sampling.context_extras.{name}") for name in ("modes", "context_ref"))
    one, two = ReferenceControl(), ReferenceControl(modes.Sliding(2))
    seen, unet = acn_reference(one, two)
    keyframe = reference.RefKeyframe(0.5, 0.5, None, reference.Tune(attn_strength=0.3), start_percent=0.2)
    masked = reference.RefKeyframe(0.5, torch.ones(1, 2, 2), modes.First(), start_percent=0.4, inherit_missing=False)
    model = referring(strength=0.7, keyframes=(keyframe, masked))
    assert list(model.wrappers["outer_sample"]) == ["AnimateDiff", "ACN_outer_sample_wrapper"]
    model.set_model_unet_function_wrapper(unet)
    conds = [new_cond(1), new_cond(2)]
    found = sampled(model, conds)
    assert [state for state, _, _ in seen["windows"]] == ["write", "read_write"] * 2
    assert [frames for _, frames, _ in seen["windows"]] == [*HALVES, *HALVES]
    assert len({uuids for _, _, uuids in seen["windows"]}) == 1  # by which it knows a prompt again
    assert [told for told in one.told] == [("step", pytest.approx(sigma), 2) for sigma in (14.6146, 3.0)]
    assert seen["cleaned"] == 2
    ((version, tune, keyframes, strength, mask),) = seen["read"]
    assert (version, strength, mask) == (1, 0.7, None)
    assert tune["attn_strength"] == 1.0
    assert tune["adain_ref_weight"] == 0.0
    first, second = keyframes
    assert (first["start_percent"], first["guarantee_steps"], first["inherit_missing"]) == (0.2, 1, True)
    assert (first["strength"], first["mask"], first["mode"]) == (0.25, None, None)
    assert first["tune"].create_dict()["attn_strength"] == 0.3
    assert (second["strength"], second["tune"], second["inherit_missing"]) == (0.5, None, False)
    assert second["mask"].shape == (1, 2, 2)
    assert isinstance(second["mode"], modes.First)
    plain = animated()
    plain.remove_wrappers_with_key("outer_sample", "ACN_outer_sample_wrapper")
    assert torch.equal(found, sampled(plain, conds))


@pytest.mark.parametrize(("runs", "end"), [(False, 1.0), (True, 0.0)])
def test_its_context_ref_is_told_when_it_is_off(acn_reference, referring, new_cond, runs, end):
    one = ReferenceControl(runs=runs)
    seen, unet = acn_reference(one, ReferenceControl(), version=10000)
    model = referring(end_percent=end)
    model.set_model_unet_function_wrapper(unet)
    sampled(model, [new_cond(1), new_cond(2)])
    assert [state for state, _, _ in seen["windows"]] == ["off"] * 4
    assert seen["cleaned"] == 0
    assert {arguments for _, _, arguments in one.told} == ({1} if end else set())  # an old version: sigma alone


def test_without_its_objects_ours_does_context_ref(acn_reference, referring, animated, new_cond):
    conds = [new_cond(1), new_cond(2)]
    seen, unet = acn_reference()
    model = referring()
    model.set_model_unet_function_wrapper(unet)
    found = sampled(model, conds)
    assert seen["cleaned"] == 0
    assert {state for state, _, _ in seen["windows"]} == {None}
    plain = animated()
    plain.remove_wrappers_with_key("outer_sample", "ACN_outer_sample_wrapper")
    without = sampled(plain, conds)
    close(found[:4], without[:4])
    assert not torch.allclose(found[4:], without[4:], rtol=1e-2, atol=1e-2)
