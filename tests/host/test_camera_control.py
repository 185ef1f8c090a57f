"""CameraCtrl: rays, pose encoder, merging into attention, nodes and sampling, on tiny networks."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

WIDTHS = (32, 64, 128, 128)  # of the tiny UNet
PUBLIC = (320, 640, 1280, 1280)
FRAMES = 16  # of the pose encoder's tables
HEADS = 8


# An independent account of the method, in float64


def reference_rays(poses: list, height: int, width: int) -> np.ndarray:
    """``(frames, 6, height, width)``, ray by ray."""
    made = np.zeros((len(poses), 6, height, width))
    square = [np.vstack([np.reshape(pose[7:], (3, 4)), [0, 0, 0, 1]]) for pose in poses]
    for frame, (pose, matrix) in enumerate(zip(poses, square, strict=True)):
        to_first = square[0] @ np.linalg.inv(matrix)
        fx, fy = pose[1] * width, pose[2] * height
        shape = pose[5] / pose[6]
        if shape > width / height:  # the sides are cropped: the picture was wider, at the same height
            fx = pose[1] * height * shape
        else:
            fy = pose[2] * width / shape
        for v in range(height):
            for u in range(width):
                ray = np.array([(u + 0.5 - pose[3] * width) / fx, (v + 0.5 - pose[4] * height) / fy, 1.0])
                ray = to_first[:3, :3] @ (ray / np.sqrt((ray**2).sum()))
                o = to_first[:3, 3]
                moment = [o[1] * ray[2] - o[2] * ray[1], o[2] * ray[0] - o[0] * ray[2], o[0] * ray[1] - o[1] * ray[0]]
                made[frame, :, v, u] = [*moment, *ray]
    return made


def norm(weights: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(weights: dict, name: str, z: torch.Tensor) -> torch.Tensor:
    """Attention along dim 1 of ``(positions, frames, channels)``, of what has its positions already."""
    positions, frames, channels = z.shape
    q, k, v = (
        (z @ weights[f"{name}.to_{each}.weight"].T).view(positions, frames, HEADS, -1).transpose(1, 2) for each in "qkv"
    )
    shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(channels / HEADS), dim=-1)
    mixed = (shares @ v).transpose(1, 2).reshape(positions, frames, channels)
    return mixed @ weights[f"{name}.to_out.0.weight"].T + weights[f"{name}.to_out.0.bias"]


def feed_forward(weights: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    value, gate = (x @ weights[f"{name}.net.0.proj.weight"].T + weights[f"{name}.net.0.proj.bias"]).chunk(2, -1)
    gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    return (value * gelu) @ weights[f"{name}.net.2.weight"].T + weights[f"{name}.net.2.bias"]


def reference_encoder(weights: dict, rays: torch.Tensor, views: list | None = None) -> list[torch.Tensor]:
    """Features of each level from ``(frames, 6, 8 height, 8 width)``. ``views``: frames and their weights."""
    weights = {name: value.double() for name, value in weights.items()}
    frames, _, height, width = rays.shape
    # pixels of an 8 x 8 square become channels
    squares = rays.double().view(frames, 6, height // 8, 8, width // 8, 8)
    x = squares.permute(0, 1, 3, 5, 2, 4).reshape(frames, 384, height // 8, width // 8)

    def conv(name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    x = conv("encoder_conv_in", x, 1)
    views = views or [(list(range(frames)), torch.ones(frames).double())]
    features = []
    for level in range(4):
        for j in range(2):
            if level and not j:
                if x.shape[2] % 2:
                    x = torch.cat([x, x[:, :, -1:]], 2)
                if x.shape[3] % 2:
                    x = torch.cat([x, x[:, :, :, -1:]], 3)
                x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
            name = f"encoder_down_conv_blocks.{level}.{j}"
            if f"{name}.in_conv.weight" in weights:
                x = conv(f"{name}.in_conv", x)
            x = x + conv(f"{name}.block2", conv(f"{name}.block1", x, 1).clamp(min=0))
            name = f"encoder_down_attention_blocks.{level}.{j}"
            y = x.flatten(2).permute(2, 0, 1)
            total, counts = torch.zeros_like(y), torch.zeros(frames).double()
            for window, counting in views:
                z = norm(weights, f"{name}.norms.0", y[:, window])
                z = z + weights[f"{name}.attention_blocks.0.pos_encoder.pe"][:, : len(window)]
                seen = y[:, window] + attend(weights, f"{name}.attention_blocks.0", z)
                for i, frame in enumerate(window):
                    total[:, frame] += seen[:, i] * counting[i]
                    counts[frame] += counting[i]
            y = total / counts[:, None]
            y = y + feed_forward(weights, f"{name}.ff", norm(weights, f"{name}.ff_norm", y))
            x = y.permute(1, 2, 0).reshape(x.shape)
        features.append(x)
    return features


# Files with random weights, under the published names


def encoder_shapes(widths, frames: int = FRAMES) -> dict[str, tuple[int, ...]]:
    shapes = {"encoder_conv_in.weight": (widths[0], 384, 3, 3), "encoder_conv_in.bias": (widths[0],)}
    before = widths[0]
    for level, width in enumerate(widths):
        for j in range(2):
            conv, attention = (f"encoder_down_{kind}_blocks.{level}.{j}" for kind in ("conv", "attention"))
            layers = {f"{conv}.in_conv": (width, before, 1, 1)} if before != width else {}
            layers |= {f"{conv}.block1": (width, width, 3, 3), f"{conv}.block2": (width, width, 1, 1)}
            layers |= {f"{attention}.ff.net.0.proj": (8 * width, width), f"{attention}.ff.net.2": (width, 4 * width)}
            layers |= {f"{attention}.norms.0": (width,), f"{attention}.ff_norm": (width,)}
            layers[f"{attention}.attention_blocks.0.to_out.0"] = (width, width)
            for name, shape in layers.items():
                shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
            shapes |= {f"{attention}.attention_blocks.0.to_{each}.weight": (width, width) for each in "qkv"}
            shapes[f"{attention}.attention_blocks.0.pos_encoder.pe"] = (1, frames, width)
            before = width
    return shapes


def attentions(widths) -> dict[str, int]:
    """The temporal attentions that get features -> their level."""
    rest = "temporal_transformer.transformer_blocks.0.attention_blocks.0"
    found = {}
    for level in range(len(widths)):
        found |= {f"down_blocks.{level}.motion_modules.{j}.{rest}": level for j in range(2)}
        found |= {f"up_blocks.{level}.motion_modules.{j}.{rest}": len(widths) - 1 - level for j in range(3)}
    return found


def camera_tensors(widths=WIDTHS, frames: int = FRAMES, seed: int = 5) -> dict[str, torch.Tensor]:
    shapes = encoder_shapes(widths, frames)
    for name, level in attentions(widths).items():
        merge = f"{name}.processor.qkv_merge"
        shapes |= {f"{merge}.weight": (widths[level],) * 2, f"{merge}.bias": (widths[level],)}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        fan = math.prod(shape[1:])
        tensors[name] = value * fan**-0.5 if len(shape) in (2, 4) else value * 0.3 + float("norm" in name)
    return tensors


def moving(camera, count: int, speed: float = 1.0) -> list:
    return camera.moving([("Pan Left", 1.0), ("Tilt Up", 0.5), ("Zoom In", 0.3)], speed, count)


@pytest.fixture(scope="module")
def camera(pack):
    return pack.submodule("motion_models.adapters.camera")


@pytest.fixture(scope="module")
def control(pack):
    return pack.submodule("motion_models.adapters.camera_control")


# The networks


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(6, 10), (10, 6), (9, 16), (6, 20)])
def test_rays_are_those_of_the_cameras(pack, camera, frames, size):
    """Of three frames too, whose number is that of the axes."""
    poses = camera.replaced(moving(camera, frames, speed=4.0), {camera.CX: 0.45, camera.CY: 0.55})
    rays = pack.submodule("motion_models.adapters.plucker").rays(poses, *size)
    assert rays.dtype == torch.float32
    np.testing.assert_allclose(rays.numpy(), reference_rays(poses, *size), rtol=1e-5, atol=1e-6)


def test_rays_do_not_depend_on_where_the_first_camera_stands(pack, camera):
    rays = pack.submodule("motion_models.adapters.plucker").rays
    away = camera.moving([("Pan Up", 3.0), ("Roll Clockwise", 1.0)], 1.0, 9)[-1:]
    there = camera.joined(away, moving(camera, 4))[1:]
    torch.testing.assert_close(rays(there, 6, 8), rays(moving(camera, 4), 6, 8), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_the_pose_encoder_is_that_of_the_published_file(control, size):
    weights = {name: value for name, value in camera_tensors().items() if name.startswith("encoder")}
    encoder = control.PoseEncoder(WIDTHS, FRAMES).eval()
    encoder.load_state_dict(weights)
    rays = torch.randn(5, 6, 8 * size[0], 8 * size[1], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = encoder(control.packed(rays))
    for ours, theirs in zip(features, reference_encoder(weights, rays), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_the_network_at_its_public_widths_has_the_tensors_of_the_file(control):
    merges = {name.replace(".", "/"): PUBLIC[level] for name, level in attentions(PUBLIC).items()}
    with torch.device("meta"):
        network = control.CameraControl(PUBLIC, FRAMES, merges)
    shapes = {name.removeprefix("encoder."): tuple(value.shape) for name, value in network.state_dict().items()}
    expected = encoder_shapes(PUBLIC)
    for name, width in merges.items():
        expected |= {f"merges.{name}.weight": (width, width), f"merges.{name}.bias": (width,)}
    assert shapes == expected


@pytest.mark.parametrize("strength", [1.0, 0.4, "mask"])
@pytest.mark.parametrize("in_views", [False, True])
def test_features_meet_the_hidden_states_ahead_of_queries_keys_and_values(pack, new_motion, strength, in_views):
    """One module in float64 against the equation: z + c * merge(z + features), between positions and projections."""
    call = pack.submodule("motion_models.network.call")
    strengths = pack.submodule("motion_models.network.strength")
    features_type = pack.submodule("motion_models.network.features").FrameFeatures
    module = new_motion().model.down_blocks[0].motion_modules[0].double()
    weights = module.temporal_transformer.state_dict()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 32, 3, 5, generator=generator).double()
    features = torch.randn(4, 32, 3, 5, generator=generator).double()
    merge = torch.nn.Linear(32, 32).double()
    mask = torch.rand(4, 3, 5, generator=generator)
    given = strengths.strength_of(mask, 4) if strength == "mask" else strength
    windows = [[0, 1, 2], [1, 2, 3]] if in_views else [[0, 1, 2, 3]]
    network = pack.submodule("motion_models.network.views")
    views = network.Views(tuple(network.View(window, torch.ones(3)) for window in windows)) if in_views else None
    name = module.temporal_transformer.transformer_blocks[0].attention_blocks[0].layer_name
    merges = {name: call.Merge(merge, features_type(features), given), "another": call.Merge(None, None)}
    with torch.inference_mode():
        ours = module(x, 4, call.MotionInputs(merges=merges, views=views))

        c = mask.double()[:, None] if strength == "mask" else torch.full((4, 1, 3, 5), float(strength)).double()

        def by_position(pictures):  # (clips * frames, channels, h, w) -> (clips * h * w, frames, channels)
            return pictures.unflatten(0, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(0, 2)

        y = functional.group_norm(x, 32, weights["norm.weight"], weights["norm.bias"], eps=1e-6)
        y = by_position(y) @ weights["proj_in.weight"].T + weights["proj_in.bias"]
        added, counting = by_position(features.repeat(2, 1, 1, 1)), by_position(c.repeat(2, 1, 1, 1))
        total, counts = torch.zeros_like(y), torch.zeros(4).double()
        for window in windows:
            seen = y[:, window]
            for block in range(2):
                attention = f"transformer_blocks.0.attention_blocks.{block}"
                z = norm(weights, f"transformer_blocks.0.norms.{block}", seen)
                z = z + weights[f"{attention}.pos_encoder.pe"][:, : len(window)]
                if block == 0:
                    z = z + counting[:, window] * merge(z + added[:, window])
                seen = seen + attend(weights, attention, z)
            total[:, window] += seen
            counts[window] += 1
        y = total / counts[:, None]
        y = y + feed_forward(weights, "transformer_blocks.0.ff", norm(weights, "transformer_blocks.0.ff_norm", y))
        y = y @ weights["proj_out.weight"].T + weights["proj_out.bias"]
        theirs = x + y.view(2, 3, 5, 4, 32).permute(0, 3, 4, 1, 2).flatten(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# Nodes and runs


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def load(nodes, new_motion_file, tmp_path, monkeypatch):
    """A tiny motion model with CameraCtrl; `changed` and `left_out` are about the camera's tensors."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], {".safetensors"}))

    def new(name="motion", camera="camera", frames=FRAMES, changed=None, left_out="\0", prefix="", **options):
        motion_model = os.path.basename(new_motion_file(name=name, **options))
        tensors = camera_tensors(frames=frames) | (changed or {})
        tensors = {f"{prefix}{key}": value for key, value in tensors.items() if left_out not in key}
        save_file(tensors, str(tmp_path / f"{camera}.safetensors"))
        return nodes(
            "ADE_LoadAnimateDiffModelWithCameraCtrl", model_name=motion_model, camera_ctrl=f"{camera}.safetensors"
        )[0]

    return new


RANGE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture
def use(nodes, new_model):
    def make(motion_model, poses=None, model=None, context=None, **inputs):
        if poses is None:
            applied = nodes("ADE_ApplyAnimateDiffModel", motion_model=motion_model, **{**RANGE, **inputs})[0]
        else:
            given = {"motion_model": motion_model, "cameractrl_poses": poses}
            applied = nodes("ADE_ApplyAnimateDiffModelWithCameraCtrl", **given, **{**RANGE, **inputs})[0]
        more = {} if context is None else {"context_options": context}
        options = {"m_models": applied, "beta_schedule": "autoselect", **more}
        return nodes("ADE_UseEvolvedSampling", model=model or new_model(), **options)[0]

    return make


def merges_seen(model, sample, **options) -> list[dict]:
    """What is merged in each UNet call."""
    seen = []

    def watch(apply_model, args):
        (inputs,) = args["c"]["transformer_options"]["animatediff"].motion
        seen.append(inputs.merges)
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(watch)
    sample(model, **options)
    return seen


def encoded(poses: list, size=(8, 8), views=None) -> list[torch.Tensor]:
    weights = {name: value for name, value in camera_tensors().items() if name.startswith("encoder")}
    rays = torch.from_numpy(reference_rays(poses, 8 * size[0], 8 * size[1]))
    return reference_encoder(weights, rays, views)


def test_a_camera_changes_the_clip_and_a_run_without_it_is_an_ordinary_motion_model(
    load, use, sample, camera, new_motion
):
    motion_model = load()
    before = sample(use(motion_model))
    assert torch.equal(before, sample(use(new_motion(name="plain"))))
    with_camera = use(motion_model, moving(camera, 4))
    first = sample(with_camera)
    assert not torch.allclose(first, before, rtol=0.1)
    assert not torch.allclose(first, sample(use(motion_model, moving(camera, 4, speed=-3.0))), rtol=0.1)
    assert torch.equal(sample(use(motion_model)), before)  # A-B-A
    assert torch.equal(sample(with_camera), first)
    assert torch.equal(sample(with_camera.clone().clone()), first)


def test_features_of_each_level_reach_the_modules_of_that_level(load, use, sample, camera):
    poses = moving(camera, 4)
    (merges,) = merges_seen(use(load(), poses), sample, steps=1)
    features = encoded(poses)
    tensors = camera_tensors()
    assert set(merges) == set(attentions(WIDTHS))
    for name, level in attentions(WIDTHS).items():
        torch.testing.assert_close(merges[name].features.values.double(), features[level], rtol=1e-4, atol=1e-4)
        assert torch.equal(merges[name].layer.weight, tensors[f"{name}.processor.qkv_merge.weight"])


def test_three_frames_and_odd_sizes(load, use, sample, camera):
    poses = moving(camera, 3)
    (merges,) = merges_seen(use(load(), poses), sample, steps=1, frames=3, size=9)
    features = encoded(poses, size=(9, 9))
    for name, level in attentions(WIDTHS).items():
        torch.testing.assert_close(merges[name].features.values.double(), features[level], rtol=1e-4, atol=1e-4)


def test_poses_are_relative_to_the_first_frame_of_a_window_and_the_last_serves_the_rest(
    load, use, sample, camera, nodes
):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    poses = moving(camera, 6)
    seen = merges_seen(use(load(), poses, context=context), sample, steps=2, frames=7)
    name, level = next(iter(attentions(WIDTHS).items()))
    for merges, window in zip(seen, [[0, 1, 2, 3], [3, 4, 5, 5]] * 2, strict=True):
        expected = encoded([poses[frame] for frame in window])[level]
        torch.testing.assert_close(merges[name].features.values.double(), expected, rtol=1e-4, atol=1e-4)


def test_each_window_is_encoded_once(load, use, sample, camera, nodes, pack, monkeypatch):
    adapter = pack.submodule("sampling.adapters.camera_control")
    made = []
    monkeypatch.setattr(adapter, "rays", lambda *args, rays=adapter.rays: made.append(1) or rays(*args))
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    model = use(load(), moving(camera, 7), context=context)
    first = sample(model, steps=3, frames=7)
    assert len(made) == 2
    keeper = pack.submodule("sampling.motion.adapter")
    monkeypatch.setattr(keeper, "MOST_BYTES", 0)  # what there is no room for waits elsewhere
    assert torch.equal(sample(model, steps=3, frames=7), first)
    assert len(made) == 4


def test_more_frames_than_the_encoder_has_positions_for_are_seen_in_views(load, use, sample, camera):
    poses = moving(camera, 9)
    (merges,) = merges_seen(use(load(frames=4), poses), sample, steps=1, frames=9)
    pyramid = torch.tensor([1.0, 2.0, 2.0, 1.0]).double()
    views = [([start, start + 1, start + 2, start + 3], pyramid) for start in (0, 2, 4, 5)]
    weights = {name: value for name, value in camera_tensors(frames=4).items() if name.startswith("encoder")}
    features = reference_encoder(weights, torch.from_numpy(reference_rays(poses, 64, 64)), views)
    for name, level in attentions(WIDTHS).items():
        torch.testing.assert_close(merges[name].features.values.double(), features[level], rtol=1e-3, atol=1e-3)


def test_twenty_frames_in_one_window_work(load, use, sample, camera):
    assert torch.isfinite(sample(use(load(), moving(camera, 20)), steps=1, frames=20)).all()


def test_views_of_the_motion_model_see_the_features_of_their_frames(load, use, sample, camera, nodes):
    views = nodes("ADE_StandardStaticViewOptions", view_length=3, view_overlap=1)[0]
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1, view_opts=views)[0]
    motion_model, model = load(), None
    plain = sample(use(motion_model, context=context), frames=7)
    assert not torch.allclose(sample(use(motion_model, moving(camera, 7), model, context), frames=7), plain, rtol=0.1)


def test_strength_weighs_the_camera_by_number_mask_and_keyframe(load, use, sample, camera, nodes, new_model):
    motion_model, model, poses = load(), new_model(), moving(camera, 4)
    off, full = sample(use(motion_model, model=model)), sample(use(motion_model, poses, model))
    assert torch.equal(sample(use(motion_model, poses, model, cameractrl_multival=0.0)), off)
    assert torch.equal(sample(use(motion_model, poses, model, cameractrl_multival=1.0)), full)
    half = sample(use(motion_model, poses, model, cameractrl_multival=0.5))
    assert not torch.allclose(half, full, rtol=0.1)
    mask = torch.full((4, 1, 1), 0.5)
    torch.testing.assert_close(
        sample(use(motion_model, poses, model, cameractrl_multival=mask)), half, rtol=1e-3, atol=1e-2
    )

    def keyframes(*values):
        made = ()
        for percent, value in values:
            given = {} if value is None else {"cameractrl_multival": value}
            made = nodes("ADE_CameraCtrlAnimateDiffKeyframe", start_percent=percent, prev_ad_keyframes=made, **given)[0]
        return sample(use(motion_model, poses, model, cameractrl_multival=2.0, ad_keyframes=made))

    assert torch.equal(keyframes((0.0, 0.25)), half)
    assert torch.equal(keyframes((0.0, 0.25), (0.5, None)), half)  # inherited
    assert torch.equal(keyframes((0.0, 0.0), (0.5, None)), off)
    later = keyframes((0.0, 0.0), (0.5, 0.25))
    assert not torch.equal(later, off)
    assert not torch.equal(later, half)


def test_outside_its_percent_range_the_camera_does_nothing(load, use, sample, camera, new_model):
    motion_model, model = load(), new_model()
    off = sample(use(motion_model, model=model, effect_multival=0.0))
    assert torch.equal(sample(use(motion_model, moving(camera, 4), model, start_percent=1.0)), off)
    assert torch.equal(sample(use(motion_model, moving(camera, 4), model, effect_multival=0.0)), off)


def test_one_file_with_a_camera_applied_twice(load, nodes, camera, new_model, sample):
    motion_model = load()
    given = {"motion_model": motion_model, "cameractrl_poses": moving(camera, 4), **RANGE}
    first = nodes("ADE_ApplyAnimateDiffModelWithCameraCtrl", **given)[0]
    second = nodes("ADE_ApplyAnimateDiffModelWithCameraCtrl", **given, prev_m_models=first)[0]
    model = nodes("ADE_UseEvolvedSampling", model=new_model(), m_models=second, beta_schedule="autoselect")[0]
    assert len(model.get_additional_models_with_key("AnimateDiff.adapters")) == 1
    assert torch.isfinite(sample(model)).all()


def test_motion_models_without_a_camera_say_what_to_load(use, new_motion, camera):
    with pytest.raises(ValueError, match=r"'tiny' was loaded without CameraCtrl\. Load it with"):
        use(new_motion(), moving(camera, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"left_out": "encoder"}, "is no CameraCtrl file: it has no pose encoder"),
        ({"left_out": "qkv_merge"}, "is no CameraCtrl file: it has no layers that merge poses"),
        (
            {"left_out": "up_blocks.3."},
            r"'camera\.safetensors' does not fit the motion model: .* lacks 3 of the modules",
        ),
        ({"left_out": "to_q"}, r"tensors are missing \(encoder\.encoder_down_attention_blocks\.0\.0\.attention_blocks"),
        ({"changed": {"encoder_conv_in.bias": torch.full((32,), math.nan)}}, "holds NaN"),
        ({"changed": {"encoder_down_conv_blocks.3.0.block1.weight": torch.zeros(7, 1, 3, 3)}}, "makes no sense"),
    ],
)
def test_other_files_for_the_camera_are_refused(load, options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_files_with_prefixes_load(load, use, sample, camera):
    plain = sample(use(load(), moving(camera, 4)))
    assert torch.equal(sample(use(load(camera="other", prefix="module."), moving(camera, 4))), plain)


def test_a_camera_file_is_told_where_to_go(load, nodes):
    load()
    with pytest.raises(ValueError, match="It is CameraCtrl: choose it for camera_ctrl of AnimateDiff: Load Model with"):
        nodes("ADE_LoadAnimateDiffModel", model_name="camera.safetensors")


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (None, "holds no camera poses"),
        ({2: 0.0}, r"Pose 1 \(counted from 0\) of cameractrl_poses is no camera"),
        ({7: 0.0, 8: 0.0, 9: 0.0}, r"Pose 1 \(counted from 0\)"),
        ({10: math.nan}, r"Pose 1 \(counted from 0\)"),
        ({10: "left"}, "cameractrl_poses holds things other than numbers"),
    ],
)
def test_poses_through_which_nothing_is_seen_are_refused(load, use, camera, pose, message):
    poses = moving(camera, 1)
    poses = [] if pose is None else [*poses, *camera.replaced(poses, pose)]
    with pytest.raises(ValueError, match=message):
        use(load(), poses)


def test_windows_in_one_batch_have_each_its_camera(load, use, sample, camera, nodes, new_model, alike_in_one_batch):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    motion_model, model = load(), new_model()
    strengths = torch.rand(10, 2, 3, generator=torch.Generator().manual_seed(0))

    def animated(contexts):
        return use(motion_model, moving(camera, 8), model, contexts, cameractrl_multival=strengths)

    alike_in_one_batch(animated, lambda model: sample(model, frames=10, steps=2), context, at_once=3)
