"""Deprecated loaders and settings, and the nodes around an animation, on tiny networks."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

METADATA = "animatediff."


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does: `nodes("ADE_AnimateDiffUnload", model=model)` gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}

    def run(node_id: str, **inputs) -> tuple:
        return found[node_id].execute(**inputs).result

    return run


@pytest.fixture
def motion_file(new_motion_file, tmp_path, monkeypatch):
    """Name of a motion model in the models folder. `version` says so in its metadata; `changed` gets its tensors."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], {".safetensors"}))

    def new(name="v2", version=None, changed=None, **options) -> str:
        path = new_motion_file(name=name, **options)
        tensors = load_file(path)
        if changed is not None:
            changed(tensors)
        save_file(tensors, path, {f"{METADATA}version": version} if version else None)
        return os.path.basename(path)

    return new


SCHEDULE = "sqrt_linear (AnimateDiff)"


@pytest.fixture
def load(nodes, new_model):
    """A MODEL from a loader: `load("ADE_AnimateDiffLoaderGen1", file, more inputs)`."""

    def run(node_id: str, model_name: str, beta_schedule=SCHEDULE, **inputs):
        return nodes(node_id, model=new_model(), model_name=model_name, beta_schedule=beta_schedule, **inputs)[0]

    return run


GEN1, LEGACY = "ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffLoaderWithContext"
V1, V1_ADVANCED = "AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced"
WINDOWS = {"context_stride": 1, "context_overlap": 2, "context_schedule": "uniform", "closed_loop": True}


def test_v2_models_run_as_v1_models_where_old_workflows_had_it_so(load, motion_file, sample, pack):
    v2, as_v1 = motion_file(), motion_file("same", version="v1")
    properly, jointly = sample(load(GEN1, v2)), sample(load(GEN1, as_v1))
    assert not torch.allclose(properly, jointly, rtol=0.01)
    assert torch.equal(sample(load(LEGACY, v2, apply_v2_models_properly=True)), properly)
    assert torch.equal(sample(load(LEGACY, v2, apply_v2_models_properly=False)), jointly)
    assert torch.equal(sample(load(LEGACY, v2)), jointly)  # left out of an API prompt; the widget is on
    v1_only = {"latents": {"samples": torch.zeros(1, 4, 8, 8)}, "unlimited_area_hack": False}
    assert torch.equal(sample(load(V1, v2, **v1_only)), jointly)
    assert torch.equal(sample(load(V1_ADVANCED, v2, **v1_only, context_length=0, **WINDOWS)), jointly)


WINDOW_NODES = {
    "ADE_LoopedUniformContextOptions": ("flat", {"context_length": 16, "context_stride": 1, "closed_loop": False}),
    "ADE_AnimateDiffUniformContextOptions": (
        "flat",
        {"context_length": 16, "context_stride": 1, "closed_loop": False, "context_schedule": "uniform"},
    ),
    "ADE_StandardStaticContextOptions": ("pyramid", {"context_length": 16}),
    "ADE_StandardStaticViewOptions": ("flat", {"view_length": 16}),
    "ADE_LoopedUniformViewOptions": ("pyramid", {"view_length": 16, "view_stride": 1, "closed_loop": False}),
}


@pytest.mark.parametrize("node_id", WINDOW_NODES)
def test_a_fuse_method_that_is_left_out_is_told_where_the_widget_shows_another(nodes, pack, node_id, caplog):
    """The log and the tooltip; what prompts without it get stays as it was."""
    left_out, inputs = WINDOW_NODES[node_id]
    overlap = {"view_overlap" if "view_length" in inputs else "context_overlap": 4}
    (node,) = (node for node in pack.submodule("nodes").NODES if node.GET_SCHEMA().node_id == node_id)
    (entry,) = (entry for entry in node.GET_SCHEMA().inputs if entry.id == "fuse_method")
    shown = entry.default or entry.options[0]

    (options,) = nodes(node_id, **inputs, **overlap)
    fuse = options.fuse if "View" in node_id else options[0].fuse
    assert fuse == left_out
    assert ("fuse_method is left out" in caplog.text) == (left_out != shown)
    assert (f"leave it out get {left_out}" in entry.tooltip) == (left_out != shown)
    caplog.clear()
    nodes(node_id, **inputs, **overlap, fuse_method="flat")
    assert not caplog.text


def test_the_tooltip_says_what_prompts_get_that_leave_apply_v2_models_properly_out(pack):
    schema = pack.submodule("nodes.deprecated.loaders").AnimateDiffLoaderWithContext.GET_SCHEMA()
    (entry,) = (entry for entry in schema.inputs if entry.id == "apply_v2_models_properly")
    assert "leave it out have it off" in entry.tooltip


def test_v3_models_are_never_normalised_jointly(load, motion_file, sample):
    v3 = motion_file("v3", version="v3")
    assert torch.equal(sample(load(LEGACY, v3, apply_v2_models_properly=False)), sample(load(GEN1, v3)))


def test_the_old_loader_takes_what_the_new_one_takes(load, nodes, motion_file, sample):
    name = motion_file()
    context = nodes(
        "ADE_LoopedUniformContextOptions", context_length=4, context_stride=1, context_overlap=2, closed_loop=False
    )[0]
    scaled = {"context_options": context}
    old = sample(load(LEGACY, name, motion_scale=1.3, apply_v2_models_properly=True, **scaled), frames=6)
    assert torch.equal(old, sample(load(GEN1, name, scale_multival=1.3, **scaled), frames=6))
    assert not torch.equal(old, sample(load(GEN1, name, **scaled), frames=6))
    assert not torch.equal(old, sample(load(GEN1, name, scale_multival=1.3), frames=6))


def test_first_loader_hands_latents_on_and_chooses_the_schedule_by_the_motion_model(nodes, new_model, motion_file):
    latents = {"samples": torch.zeros(2, 4, 8, 8)}
    inputs = {"model": new_model(), "latents": latents, "model_name": motion_file(), "unlimited_area_hack": True}
    chosen, passed = nodes(V1, **inputs, beta_schedule="autoselect")
    assert passed is latents
    named, _ = nodes(V1, **inputs, beta_schedule=SCHEDULE)
    kept, _ = nodes(V1, **inputs, beta_schedule="use existing")
    tables = [model.get_model_object("model_sampling").sigmas for model in (chosen, named, kept)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_schedule_uniform_is_looped_uniform(load, nodes, motion_file, sample):
    name, v1 = motion_file(), {"latents": {"samples": torch.zeros(1, 4, 8, 8)}, "unlimited_area_hack": False}
    context = nodes(
        "ADE_LoopedUniformContextOptions", context_length=4, context_stride=1, context_overlap=2, closed_loop=True
    )[0]
    expected = sample(load(LEGACY, name, context_options=context), frames=6)
    assert torch.equal(sample(load(V1_ADVANCED, name, **v1, context_length=4, **WINDOWS), frames=6), expected)
    assert not torch.equal(sample(load(V1, name, **v1), frames=6), expected)
    with pytest.raises(ValueError, match="Lower context_overlap"):
        sample(load(V1_ADVANCED, name, **v1, context_length=2, **WINDOWS), frames=6)


ATTENTION = ("pe", "attn", "attn_q", "attn_k", "attn_v", "attn_out_weight", "attn_out_bias", "other")
POSITIONS = {
    "cap_initial_pe_length": 20,
    "interpolate_pe_to_length": 28,
    "initial_pe_idx_offset": 2,
    "final_pe_idx_offset": 1,
}


def weights(load_model, settings) -> dict:
    return load_model(ad_settings=settings).model.state_dict()


@pytest.mark.parametrize(
    ("node_id", "groups", "newer"),
    [
        ("ADE_AnimateDiffModelSettings", ("pe", "attn", "other"), "ADE_AdjustWeightIndivMult"),
        ("ADE_AnimateDiffModelSettingsAdvancedAttnStrengths", ATTENTION, "ADE_AdjustWeightIndivAttnMult"),
    ],
)
def test_old_settings_adjust_as_the_nodes_that_took_their_place(nodes, motion_file, node_id, groups, newer):
    strengths = {group: 0.5 + 0.1 * i for i, group in enumerate(groups)}
    old = nodes(
        node_id, **{f"{name}_strength": value for name, value in strengths.items()}, motion_pe_stretch=8, **POSITIONS
    )[0]
    stretch = nodes("ADE_AdjustPEFullStretch", pe_stretch=8, print_adjustment=False)[0]
    position = nodes("ADE_AdjustPEManual", **POSITIONS, print_adjustment=False, prev_pe_adjust=stretch)[0]
    weight = nodes(newer, **{f"{n}_MULT": v for n, v in strengths.items()}, print_adjustment=False)[0]
    new = nodes("ADE_AnimateDiffSettings", pe_adjust=position, weight_adjust=weight)[0]

    def load(**settings):
        return nodes("ADE_LoadAnimateDiffModel", model_name=name, **settings)[0]

    name = motion_file()
    expected, found, plain = weights(load, new), weights(load, old), weights(load, None)
    assert all(torch.allclose(expected[key], found[key], atol=1e-6) for key in expected)
    unchanged = [key for key in plain if plain[key].shape == found[key].shape and torch.equal(plain[key], found[key])]
    assert unchanged == []


def test_simple_settings_stretch_positions(nodes, motion_file):
    name = motion_file(frames=16)
    settings = nodes("ADE_AnimateDiffModelSettingsSimple", motion_pe_stretch=8)[0]
    assert nodes("ADE_LoadAnimateDiffModel", model_name=name, ad_settings=settings)[0].model.spec.max_frames == 24


@pytest.mark.parametrize("loader", [GEN1, LEGACY])
def test_the_mask_of_old_settings_scales_motion_in_loaders_that_apply(load, nodes, motion_file, sample, loader):
    name = motion_file()
    mask = torch.linspace(0.2, 0.6, 64).reshape(1, 8, 8)
    scale = torch.linspace(0.5, 1.5, 64).reshape(1, 8, 8)
    for settings in (
        nodes(
            "ADE_AnimateDiffModelSettings_Release", min_motion_scale=0.5, max_motion_scale=1.5, mask_motion_scale=mask
        ),
        nodes(
            "ADE_AnimateDiffModelSettingsSimple",
            motion_pe_stretch=0,
            min_motion_scale=0.5,
            max_motion_scale=1.5,
            mask_motion_scale=mask,
        ),
    ):
        found = sample(load(loader, name, ad_settings=settings[0]))
        number = {LEGACY: "motion_scale", GEN1: "scale_multival"}[loader]
        twice = sample(load(loader, name, ad_settings=settings[0], **{number: 2.0}))
        joint = {"apply_v2_models_properly": False} if loader == LEGACY else {}
        # what a mask at the newer socket does
        v1 = motion_file("same", version="v1") if joint else name
        torch.testing.assert_close(found, sample(load(GEN1, v1, scale_multival=scale)), rtol=1e-3, atol=0.02)
        torch.testing.assert_close(twice, sample(load(GEN1, v1, scale_multival=scale * 2)), rtol=1e-3, atol=0.02)
        assert not torch.allclose(found, twice, rtol=0.01)


def test_a_mask_of_one_value_is_taken_as_it_is(nodes):
    for value, scale in ((0.0, 0.5), (1.0, 1.5)):
        settings = nodes(
            "ADE_AnimateDiffModelSettings_Release",
            min_motion_scale=0.5,
            max_motion_scale=1.5,
            mask_motion_scale=torch.full((1, 4, 4), value),
        )[0]
        assert torch.equal(settings.scale, torch.full((1, 4, 4), scale))


def test_old_files_link_settings_under_the_name_of_before(load, nodes, motion_file, sample):
    name = motion_file()
    settings = nodes("ADE_AnimateDiffModelSettingsSimple", motion_pe_stretch=8)[0]
    found = sample(load(LEGACY, name, motion_model_settings=settings))
    assert torch.equal(found, sample(load(LEGACY, name, ad_settings=settings)))
    assert not torch.equal(found, sample(load(LEGACY, name)))


def test_links_to_inputs_of_before_are_told_and_an_empty_switch_is_no_link(nodes, new_motion, new_model, caplog):
    applied = nodes("ADE_ApplyAnimateDiffModelSimple", motion_model=new_motion(), model=new_model(), motion_lora=None)[
        0
    ]
    assert len(applied) == 1
    keyframes = nodes("ADE_AnimateDiffKeyframe", start_percent=0.5, cameractrl_multival=0.5, prev_ad_keyframes=None)[0]
    assert [keyframe.start_percent for keyframe in keyframes] == [0.5]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "[AnimateDiff] ADE_ApplyAnimateDiffModelSimple has no input model",
        "[AnimateDiff] ADE_AnimateDiffKeyframe has no input cameractrl_multival",
    ]
    (context,) = nodes("ADE_BatchedContextOptions", context_length=8, prev_context=None)[0]
    assert context.windows.length == 8
    none = nodes("ADE_AnimateDiffSettings", pe_adjust=None, weight_adjust=None)[0]
    assert (none.positions, none.weights) == ((), ())


def test_unload_leaves_the_schedule_and_what_others_put_there(nodes, load, motion_file, sample, new_model, animate):
    from comfy.patcher_extension import WrappersMP

    model = load(GEN1, motion_file())
    seen = []

    def of_another_pack(executor, *args, **kwargs):
        seen.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", of_another_pack)
    animated = sample(model)
    plain = nodes("ADE_AnimateDiffUnload", model=model)[0]
    before = len(seen)
    still = sample(plain)
    assert len(seen) == 2 * before
    assert torch.equal(still, sample(animate(new_model(), beta_schedule=SCHEDULE)))
    assert not torch.equal(still, animated)
    assert not plain.attachments and not plain.additional_models and not plain.injections
    assert torch.equal(sample(model), animated)  # the model given is as it was
    assert torch.equal(sample(nodes("ADE_AnimateDiffUnload", model=plain)[0]), still)


@pytest.fixture
def checkpoint(pack, new_model, nodes, monkeypatch):
    """Run the checkpoint loader on a tiny model instead of a file."""
    loading = pack.submodule("host.loading")
    monkeypatch.setattr(loading, "load_checkpoint", lambda name: (new_model(), "clip of " + name, "vae"))

    def run(**inputs):
        model, clip, vae = nodes("CheckpointLoaderSimpleWithNoiseSelect", ckpt_name="some.safetensors", **inputs)
        assert (clip, vae) == ("clip of some.safetensors", "vae")
        return model

    return run


def test_checkpoints_load_with_another_noise_schedule(checkpoint, sample, new_model, animate):
    plain = sample(new_model())
    for name in ("autoselect", "use existing"):
        assert torch.equal(sample(checkpoint(beta_schedule=name)), plain)
    for name in ("linear (AnimateDiff-SDXL)", "lcm"):
        found = sample(checkpoint(beta_schedule=name))
        assert torch.equal(found, sample(animate(new_model(), beta_schedule=name)))
        assert not torch.equal(found, plain)


def test_checkpoints_load_with_another_scale_of_latents(checkpoint, new_model):
    import comfy.sample

    def into_the_model(model) -> torch.Tensor:
        """What the sampler hands to the UNet for latents of ones without noise."""
        seen = []

        def wrapper(apply_model, args):
            seen.append(args["input"].clone())
            return apply_model(args["input"], args["timestep"], **args["c"])

        model = model.clone()
        model.set_model_unet_function_wrapper(wrapper)
        cond = [[torch.zeros(1, 7, 16), {"pooled_output": None}]]
        ones = torch.ones(1, 4, 8, 8)
        comfy.sample.sample(
            model, torch.zeros_like(ones), 1, 1.0, "euler", "normal", cond, cond, ones, denoise=0.3, disable_pbar=True
        )
        return seen[0]

    usual = into_the_model(checkpoint(beta_schedule="use existing", scale_factor=0.5))
    assert torch.equal(usual, into_the_model(new_model()))
    custom = checkpoint(beta_schedule="use existing", use_custom_scale_factor=True, scale_factor=0.18215 / 2)
    torch.testing.assert_close(into_the_model(custom), usual / 2)


def test_empty_latents_may_be_many(nodes):
    latent = nodes("ADE_EmptyLatentImageLarge", width=64, height=128, batch_size=5000)[0]["samples"]
    assert latent.shape == (5000, 4, 16, 8)
    assert not latent.any()


def without_encoder(tensors: dict) -> None:
    """Make the tensors those of an AnimateLCM file: no position tables."""
    for name in [name for name in tensors if name.endswith(".pe")]:
        del tensors[name]


@pytest.mark.parametrize("changed", [without_encoder, None])
def test_other_motion_models_are_no_animatelcm_i2v(nodes, motion_file, changed):
    name = motion_file("other", changed=changed)
    with pytest.raises(ValueError, match=r"'other' is no AnimateLCM-I2V file.* Load it with AnimateDiff: Load Model"):
        nodes("ADE_LoadAnimateLCMI2VModel", model_name=name)
