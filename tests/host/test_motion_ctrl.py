"""MotionCtrl's camera (CMCM): projections behind attention, tuned motion weights, nodes and sampling."""

from __future__ import annotations

import math
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

WIDTHS = (32, 64, 128, 128)  # of the tiny UNet
PUBLIC = (320, 640, 1280, 1280)
HEADS = 8


def blocks(widths, mid: bool = True) -> dict[str, int]:
    """The temporal blocks of a motion model -> channels."""
    rest = "temporal_transformer.transformer_blocks.0"
    found = {f"mid_block.motion_modules.0.{rest}": widths[-1]} if mid else {}
    for level, width in enumerate(widths):
        found |= {f"down_blocks.{level}.motion_modules.{j}.{rest}": width for j in range(2)}
        found |= {f"up_blocks.{level}.motion_modules.{j}.{rest}": widths[-1 - level] for j in range(3)}
    return found


def camera_tensors(seed: int = 5) -> dict[str, torch.Tensor]:
    """A random CMCM file for a tiny motion model, in the public layout: projections, and tuned weights of one layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, width in blocks(WIDTHS).items():
        weight = torch.randn(width, width + 12, generator=generator) * 0.2 * width**-0.5
        weight[:, :width] += torch.eye(width)  # training begins with what changes nothing
        tensors[f"{name}.cc_projection.weight"] = weight
        tensors[f"{name}.cc_projection.bias"] = torch.randn(width, generator=generator) * 0.1
        for block in range(2):
            attention = f"{name}.attention_blocks.{block}"
            tensors[f"{attention}.to_q.weight"] = torch.randn(width, width, generator=generator) * width**-0.5
            tensors[f"{attention}.pos_encoder.pe"] = torch.randn(1, 24, width, generator=generator)
    return {f"module.{name}": value for name, value in tensors.items()}


@pytest.fixture(scope="module")
def camera(pack):
    return pack.submodule("motion_models.adapters.camera")


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def load(nodes, new_motion_file, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], {".safetensors"}))

    def new(name="motion", camera="cmcm", tuned=False, changed=None, left_out="\0", **options):
        motion_model = os.path.basename(new_motion_file(name=name, **options))
        tensors = {key: value for key, value in camera_tensors().items() if left_out not in key}
        save_file(tensors | (changed or {}), str(tmp_path / f"{camera}.safetensors"))
        given = {"model_name": motion_model, "motionctrl": f"{camera}.safetensors", "tuned_motion": tuned}
        return nodes("AnimateDiffLoadMotionModelWithMotionCtrl", **given)[0]

    return new


RANGE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture
def use(nodes, new_model):
    def make(motion_model, poses=None, model=None, context=None, **inputs):
        inputs = {"motion_model": motion_model, **RANGE, **inputs}
        if poses is None:
            applied = nodes("ADE_ApplyAnimateDiffModel", **inputs)[0]
        else:
            applied = nodes("AnimateDiffApplyMotionCtrlCamera", poses=poses, **inputs)[0]
        more = {} if context is None else {"context_options": context}
        options = {"m_models": applied, "beta_schedule": "autoselect", **more}
        return nodes("ADE_UseEvolvedSampling", model=model or new_model(), **options)[0]

    return make


def moving(camera, count: int, speed: float = 1.0) -> list:
    return camera.moving([("Pan Left", 1.0), ("Tilt Up", 0.5)], speed, count)


def norm(weights: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(weights: dict, name: str, z: torch.Tensor) -> torch.Tensor:
    positions, frames, channels = z.shape
    z = z + weights[f"{name}.pos_encoder.pe"][:, :frames]
    q, k, v = (
        (z @ weights[f"{name}.to_{each}.weight"].T).view(positions, frames, HEADS, -1).transpose(1, 2) for each in "qkv"
    )
    shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(channels / HEADS), dim=-1)
    mixed = (shares @ v).transpose(1, 2).reshape(positions, frames, channels)
    return mixed @ weights[f"{name}.to_out.0.weight"].T + weights[f"{name}.to_out.0.bias"]


def test_poses_meet_the_hidden_states_behind_the_first_attention(pack, load, camera):
    """One module in float64 against the equation: y = projection([y, pose]), of a pose for the positive cond alone."""
    call = pack.submodule("motion_models.network.call")
    features = pack.submodule("motion_models.network.features").FrameFeatures
    motion_model = load()
    module = motion_model.model.down_blocks[0].motion_modules[0].double()
    weights = module.temporal_transformer.state_dict()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 32, 3, 5, generator=generator).double()
    poses = torch.tensor([pose[7:] for pose in moving(camera, 4)]).double()
    layer = torch.nn.Linear(44, 32).double()
    name = module.temporal_transformer.transformer_blocks[0].attention_blocks[0].layer_name
    given = features(poses[:, :, None, None], without=frozenset({"no"}))
    inputs = call.MotionInputs(projections={name: call.Projection(layer, given)})
    with torch.inference_mode():
        ours = module(x, 4, inputs.in_batch(["yes", "no"], 2))

        y = functional.group_norm(x, 32, weights["norm.weight"], weights["norm.bias"], eps=1e-6)
        y = y.unflatten(0, (2, 4)).permute(0, 3, 4, 1, 2).flatten(0, 2)
        y = y @ weights["proj_in.weight"].T + weights["proj_in.bias"]
        block = "transformer_blocks.0"
        y = y + attend(weights, f"{block}.attention_blocks.0", norm(weights, f"{block}.norms.0", y))
        told = torch.cat([poses.expand(15, -1, -1), torch.zeros(15, 4, 12).double()])
        y = torch.cat([y, told], -1) @ layer.weight.T + layer.bias
        y = y + attend(weights, f"{block}.attention_blocks.1", norm(weights, f"{block}.norms.1", y))
        z = norm(weights, f"{block}.ff_norm", y)
        z = z @ weights[f"{block}.ff.net.0.proj.weight"].T + weights[f"{block}.ff.net.0.proj.bias"]
        value, gate = z.chunk(2, -1)
        value = value * 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
        y = y + value @ weights[f"{block}.ff.net.2.weight"].T + weights[f"{block}.ff.net.2.bias"]
        y = y @ weights["proj_out.weight"].T + weights["proj_out.bias"]
        theirs = x + y.view(2, 3, 5, 4, 32).permute(0, 3, 4, 1, 2).flatten(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_network_at_its_public_widths_has_the_tensors_of_the_file(pack):
    names = {name.replace(".", "/"): width for name, width in blocks(PUBLIC, mid=False).items()}
    with torch.device("meta"):
        network = pack.submodule("motion_models.adapters.motion_ctrl").MotionCtrlCamera(names)
    expected = {}
    for name, width in names.items():
        expected |= {f"projections.{name}.weight": (width, width + 12), f"projections.{name}.bias": (width,)}
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected


def told(model, sample, guide=None, **options) -> list[tuple]:
    """Of each UNet call which conds it serves, and what meets the first module's hidden states."""
    seen = []

    def watch(apply_model, args):
        options = args["c"]["transformer_options"]
        (inputs,) = options["animatediff"].motion
        clips = args["input"].shape[0] // options["animatediff"].frames
        inputs = inputs.in_batch(options["uuids"], clips)
        seen.append((list(options["cond_or_uncond"]), next(iter(inputs.projections.values())).features))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(watch)
    (guide or sample)(model, **options)
    return seen


def test_the_camera_counts_for_positive_conds_only(load, use, sample, camera):
    poses = moving(camera, 4)
    for conds, features in told(use(load(), poses), sample, steps=1):
        assert features.clips == tuple(cond == 0 for cond in conds)
        matrices = torch.tensor([pose[7:] for pose in poses])
        torch.testing.assert_close(features.values[:, :, 0, 0], matrices)


def test_guiders_with_their_conds_in_another_order(load, use, sample, camera, positive, negative, new_cond):
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler

    def guide(model, **_):
        cls = nodes_custom_sampler.DualCFGGuider
        inputs = (model, positive, new_cond(5), negative, 7.5, 2.0, "regular")
        guider = cls.execute(*inputs).result[0] if hasattr(cls, "execute") else cls().get_guider(*inputs)[0]
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 1)
        noise = torch.randn(4, 4, 8, 8)
        with torch.inference_mode():
            guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=3)

    seen = told(use(load(), moving(camera, 4)), sample, guide)
    assert sum(map(len, (conds for conds, _ in seen))) == 3
    for conds, features in seen:
        assert features.clips == tuple(cond != 0 for cond in conds)  # this guider's first cond is the negative one


def test_windows_see_the_poses_of_their_frames(load, use, sample, camera, nodes):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    poses = moving(camera, 6)
    matrices = torch.tensor([pose[7:] for pose in poses])
    seen = told(use(load(), poses, context=context), sample, steps=1, frames=7)
    windows = [[0, 1, 2, 3], [3, 4, 5, 5]]
    assert len(seen) == 2
    for (_, features), window in zip(seen, windows, strict=True):
        torch.testing.assert_close(features.values[:, :, 0, 0], matrices[window])


def test_a_camera_changes_the_clip_and_a_run_without_it_is_an_ordinary_motion_model(
    load, use, sample, camera, new_motion
):
    motion_model = load()
    before = sample(use(motion_model))
    assert torch.equal(before, sample(use(new_motion(name="plain"))))
    with_camera = use(motion_model, moving(camera, 4))
    first = sample(with_camera)
    assert not torch.allclose(first, before, rtol=0.1)
    assert not torch.allclose(first, sample(use(motion_model, moving(camera, 4, speed=-9.0))), rtol=0.1)
    assert torch.equal(sample(use(motion_model)), before)  # A-B-A
    assert torch.equal(sample(with_camera), first)
    assert torch.equal(sample(with_camera.clone().clone()), first)
    off = sample(use(motion_model, effect_multival=0.0))
    assert torch.equal(sample(use(motion_model, moving(camera, 4), effect_multival=0.0)), off)


def test_tuned_weights_and_tables_take_the_place_of_the_motion_models(
    load, use, sample, nodes, new_motion_file, tmp_path
):
    tuned = load(tuned=True)
    assert tuned.model.spec.max_frames == 24
    path = new_motion_file(name="merged")
    further = {name.removeprefix("module."): value for name, value in camera_tensors().items() if "cc_" not in name}
    save_file(load_file(path) | further, path)
    merged = nodes("ADE_LoadAnimateDiffModel", model_name="merged.safetensors")[0]
    assert torch.equal(sample(use(tuned)), sample(use(merged)))
    assert not torch.allclose(sample(use(load())), sample(use(tuned)), rtol=0.1)


def test_one_file_applied_twice(load, nodes, camera, new_model, sample):
    given = {"motion_model": load(tuned=True), "poses": moving(camera, 4), **RANGE}
    first = nodes("AnimateDiffApplyMotionCtrlCamera", **given)[0]
    second = nodes("AnimateDiffApplyMotionCtrlCamera", **given, prev_m_models=first)[0]
    model = nodes("ADE_UseEvolvedSampling", model=new_model(), m_models=second, beta_schedule="autoselect")[0]
    assert torch.isfinite(sample(model)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"left_out": "cc_projection"}, r"is no MotionCtrl camera \(CMCM\): it has no layers named cc_projection"),
        ({"left_out": "cc_projection.bias"}, r"tensors are missing \(projections"),
        ({"left_out": "up_blocks.3."}, "does not fit the motion model: 3 of its 21 temporal blocks have no layer"),
        (
            {"tuned": True, "changed": {"module.down_blocks.9.motion_modules.0.temporal_transformer.x": torch.ones(1)}},
            "The motion weights of 'cmcm.safetensors' do not fit",
        ),
    ],
)
def test_other_files_for_the_camera_are_refused(load, options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_a_camera_file_is_told_where_to_go_and_models_without_one_what_to_load(load, nodes, use, new_motion, camera):
    load()
    with pytest.raises(ValueError, match=r"It is MotionCtrl's camera: choose it for motionctrl of"):
        nodes("ADE_LoadAnimateDiffModel", model_name="cmcm.safetensors")
    with pytest.raises(ValueError, match=r"was loaded without MotionCtrl\. Load it with"):
        use(new_motion(name="plain"), moving(camera, 4))


def test_windows_in_one_batch_have_each_its_poses(load, use, sample, camera, nodes, new_model, alike_in_one_batch):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    motion_model, model, poses = load(), new_model(), moving(camera, 6)
    alike_in_one_batch(
        lambda contexts: use(motion_model, poses, model, contexts),
        lambda model: sample(model, frames=10, steps=2),
        context,
        at_once=3,
    )
