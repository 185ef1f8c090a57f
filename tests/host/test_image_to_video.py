"""AnimateLCM-I2V: image encoder, nodes and sampling, on tiny networks."""

from __future__ import annotations

import math
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

WIDTHS = (32, 64, 128, 128)  # of the tiny UNet
PUBLIC = (320, 640, 1280, 1280)


def reference(weights: dict, latents: torch.Tensor, frames: int, drift: float) -> list[torch.Tensor]:
    """The encoder's features in float64, written from the description of the published file."""
    weights = {name: value.double() for name, value in weights.items()}

    def conv(name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    x = conv("conv_in", latents.double(), 1)
    channels = x.shape[1]
    moved = x.expand(frames, -1, -1, -1).clone()
    for frame in range(frames):
        for channel in range(channels):
            angle = frame / 10000 ** ((channel - channel % 2) / channels)
            moved[frame, channel] += drift * (math.sin(angle) if channel % 2 == 0 else math.cos(angle))
    x, features = moved, []
    for block in range(8):
        if block % 2 == 0 and block > 0:
            if x.shape[2] % 2:
                x = torch.cat([x, x[:, :, -1:]], dim=2)
            if x.shape[3] % 2:
                x = torch.cat([x, x[:, :, :, -1:]], dim=3)
            x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
        name = f"body.{block}"
        if f"{name}.in_conv.weight" in weights:
            x = conv(f"{name}.in_conv", x)
        x = x + conv(f"{name}.block2", conv(f"{name}.block1", x, 1).clamp(min=0))
        if block % 2:
            features.append(x)
    return features


def encoder_tensors(widths=WIDTHS, seed: int = 5) -> dict[str, torch.Tensor]:
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def conv(name: str, channels: int, to: int, size: int) -> None:
        weight = torch.randn(to, channels, size, size, generator=generator)
        tensors[f"{name}.weight"] = weight * (channels * size * size) ** -0.5
        tensors[f"{name}.bias"] = torch.randn(to, generator=generator) * 0.1

    conv("conv_in", 4, widths[0], 3)
    before = widths[0]
    for block in range(8):
        width = widths[block // 2]
        if before != width:
            conv(f"body.{block}.in_conv", before, width, 1)
        conv(f"body.{block}.block1", width, width, 3)
        conv(f"body.{block}.block2", width, width, 1)
        before = width
    return tensors


@pytest.fixture(scope="module")
def encoders(pack):
    return pack.submodule("motion_models.adapters.image_encoder")


@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
@pytest.mark.parametrize(("frames", "pictures", "drift"), [(5, 5, 0.0), (5, 1, 0.7), (1, 1, 0.0)])
def test_the_encoder_is_that_of_the_published_file(encoders, size, frames, pictures, drift):
    tensors = encoder_tensors()
    encoder = encoders.ImageEncoder(4, WIDTHS)
    encoder.load_state_dict(tensors)
    latents = torch.randn(pictures, 4, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = encoder(latents, frames, drift)
    for ours, theirs in zip(features, reference(tensors, latents, frames, drift), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def test_the_encoder_at_its_public_widths_has_the_tensors_of_the_file(encoders):
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in encoders.ImageEncoder(4, PUBLIC).state_dict().items()}
    convs = {"conv_in": (320, 4, 3, 3), "body.2.in_conv": (640, 320, 1, 1), "body.4.in_conv": (1280, 640, 1, 1)}
    for block in range(8):
        width = PUBLIC[block // 2]
        convs |= {f"body.{block}.block1": (width, width, 3, 3), f"body.{block}.block2": (width, width, 1, 1)}
    assert shapes == {f"{name}.weight": shape for name, shape in convs.items()} | {
        f"{name}.bias": shape[:1] for name, shape in convs.items()
    }


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def i2v_file(new_motion_file, tmp_path, monkeypatch):
    """Name of an AnimateLCM-I2V file in the models folder."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([str(tmp_path)], {".safetensors"}))

    def new(name: str = "i2v", mid: bool = True, prefix: str = "", changed: dict | None = None) -> str:
        path = new_motion_file(name=name, mid=mid)
        tensors = {key: value for key, value in load_file(path).items() if not key.endswith(".pe")}
        tensors |= {f"img_encoder.{key}": value for key, value in (encoder_tensors() | (changed or {})).items()}
        save_file({f"{prefix}{key}": value for key, value in tensors.items()}, path)
        return os.path.basename(path)

    return new


@pytest.fixture
def load(nodes, i2v_file):
    return lambda **options: nodes("ADE_LoadAnimateLCMI2VModel", model_name=i2v_file(**options))


RANGE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture
def use(nodes, new_model):
    """A MODEL with a motion model applied: by the I2V node where there are latents, else by the plain node."""

    def make(motion_model, ref=None, model=None, drift=0.0, when_disabled=False, context=None, **inputs):
        if ref is None:
            applied = nodes("ADE_ApplyAnimateDiffModel", motion_model=motion_model, **{**RANGE, **inputs})[0]
        else:
            more = {"ref_latent": {"samples": ref}, "ref_drift": drift, "apply_ref_when_disabled": when_disabled}
            applied = nodes("ADE_ApplyAnimateLCMI2VModel", motion_model=motion_model, **more, **{**RANGE, **inputs})[0]
        more = {} if context is None else {"context_options": context}
        return nodes(
            "ADE_UseEvolvedSampling", model=model or new_model(), m_models=applied, beta_schedule="lcm", **more
        )[0]

    return make


def latents(count: int, size=8, seed: int = 11) -> torch.Tensor:
    return torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(seed)) * 5


def features_seen(model, sample, level: int = 0, **options) -> list[torch.Tensor]:
    """What is added ahead of the last motion module of a level, in each UNet call."""
    seen = []

    def watch(apply_model, args):
        (inputs,) = args["c"]["transformer_options"]["animatediff"].motion
        features = inputs.ahead.get(f"down_blocks.{level}.motion_modules.1")
        seen.append(None if features is None else features.values)
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(watch)
    sample(model, **options)
    return seen


def test_a_picture_changes_the_clip_and_a_run_without_it_is_an_ordinary_motion_model(
    load, use, sample, new_motion, nodes
):
    motion_model, _ = load()
    plain = use(motion_model)
    before = sample(plain)
    with_picture = use(motion_model, latents(1))
    first = sample(with_picture)
    assert not torch.allclose(first, before, rtol=0.1)
    assert torch.equal(sample(use(motion_model)), before)  # A-B-A
    assert torch.equal(sample(with_picture), first)
    assert torch.equal(sample(with_picture.clone().clone()), first)
    assert not torch.allclose(sample(use(motion_model, latents(1, seed=12))), first, rtol=0.1)


def test_features_are_those_of_the_picture_in_the_scale_of_the_unet(load, use, sample):
    motion_model, _ = load()
    ref = latents(1)
    seen = features_seen(use(motion_model, ref, drift=0.5), sample, level=1, steps=2)
    assert len(seen) == 2
    expected = reference(encoder_tensors(), ref * 0.18215, 4, 0.5)[1]
    for features in seen:
        torch.testing.assert_close(features.double(), expected, rtol=1e-5, atol=1e-5)


def test_of_several_pictures_each_is_for_one_frame_and_the_last_serves_the_rest(load, use, sample):
    motion_model, _ = load()
    ref = latents(3)
    for count, pictures in ((5, [0, 1, 2, 2, 2]), (2, [0, 1])):
        (features,) = features_seen(use(motion_model, ref), sample, frames=count, steps=1)
        expected = reference(encoder_tensors(), ref[pictures] * 0.18215, count, 0.0)[0]
        torch.testing.assert_close(features.double(), expected, rtol=1e-5, atol=1e-5)


def test_windows_see_the_pictures_of_their_frames(load, use, sample, nodes):
    motion_model, _ = load()
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    ref = latents(7)
    seen = features_seen(use(motion_model, ref, drift=0.3, context=context), sample, frames=7, steps=2)
    windows = [[0, 1, 2, 3], [3, 4, 5, 6]] * 2
    for features, window in zip(seen, windows, strict=True):
        expected = reference(encoder_tensors(), ref[window] * 0.18215, 4, 0.3)[0]
        torch.testing.assert_close(features.double(), expected, rtol=1e-5, atol=1e-5)


def test_pictures_of_another_size_are_cropped_and_odd_sizes_work(load, use, sample):
    motion_model, _ = load()
    wide = torch.randn(1, 4, 10, 20, generator=torch.Generator().manual_seed(2))
    (features,) = features_seen(use(motion_model, wide), sample, steps=1, size=10)
    middle = reference(encoder_tensors(), wide[..., 5:15] * 0.18215, 1, 0.0)[0]
    torch.testing.assert_close(features.double(), middle, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(sample(use(motion_model, latents(1)), size=9)).all()


def test_the_encoder_alone_adds_features_to_the_picture(load, use, sample, new_model):
    _, encoder_only = load()
    model = new_model()
    assert not list(encoder_only.model.parameters())
    with_picture = sample(use(encoder_only, latents(1), model))
    assert torch.equal(sample(use(encoder_only, latents(1), model)), with_picture)
    half = sample(use(encoder_only, latents(1), model, effect_multival=0.5))
    assert not torch.allclose(half, with_picture, rtol=0.1)
    # without a temporal module, every frame is by itself
    assert torch.allclose(
        sample(use(encoder_only, latents(1), model), frames=2), with_picture[:2], rtol=1e-3, atol=1e-2
    )


def test_the_encoder_alone_needs_the_node_that_takes_its_picture(load, use, pack, tmp_path):
    _, encoder_only = load()
    with pytest.raises(ValueError, match=r"'i2v' is an image encoder .* Connect it to Apply AnimateLCM-I2V Model"):
        use(encoder_only)
    save = pack.submodule("motion_models.files.saving").save_motion_model
    with pytest.raises(ValueError, match="no motion modules to save"):
        save(encoder_only, str(tmp_path / "saved.safetensors"))


def test_a_motion_model_is_saved_without_its_encoder_and_the_log_says_so(load, pack, tmp_path, caplog):
    save = pack.submodule("motion_models.files.saving").save_motion_model
    save(load()[0], str(tmp_path / "saved.safetensors"))
    assert "saved without its image encoder" in caplog.text
    assert not any("img_encoder" in name for name in load_file(tmp_path / "saved.safetensors"))


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_the_picture_counts_where_the_motion_model_does_not_only_if_asked_to(load, use, sample, new_model, effect):
    motion_model, _ = load()
    model = new_model()
    switched = {"effect_multival": 0.0} if effect == 0.0 else {"start_percent": 1.0}
    off = sample(use(motion_model, model=model, effect_multival=0.0))
    assert torch.equal(sample(use(motion_model, latents(1), model, **switched)), off)
    kept = sample(use(motion_model, latents(1), model, when_disabled=True, **switched))
    assert not torch.allclose(kept, off, rtol=0.1)


def test_effect_weighs_features_as_it_weighs_motion(load, pack):
    """The formula of the module: x + effect * (features + transformer(x + features))."""
    motion_model, _ = load()
    call = pack.submodule("motion_models.network.call")
    features = pack.submodule("motion_models.network.features").FrameFeatures
    module = motion_model.model.down_blocks[0].motion_modules[1]
    generator = torch.Generator().manual_seed(0)
    x, added = torch.randn(8, 32, 6, 6, generator=generator), torch.randn(4, 32, 6, 6, generator=generator)

    def run(effect, ahead):
        inputs = call.MotionInputs(call.ModuleInputs(effect=effect), ahead={module.layer_name: features(ahead)})
        return module(x, 4, inputs)

    both = added.repeat(2, 1, 1, 1)
    moved = module(x + both, 4, call.MotionInputs())
    torch.testing.assert_close(run(None, added), moved)
    torch.testing.assert_close(run(0.3, added), x * 0.7 + moved * 0.3)
    torch.testing.assert_close(run(0.0, added), x + both)
    small = functional.interpolate(added, (3, 3), mode="bilinear", align_corners=False)
    grown = functional.interpolate(small, (6, 6), mode="bilinear", align_corners=False).repeat(2, 1, 1, 1)
    torch.testing.assert_close(run(0.0, small), x + grown)


def test_an_encoder_can_be_given_to_another_motion_model(load, use, sample, nodes, new_motion, i2v_file):
    other = new_motion(name="other", seed=8)
    name = i2v_file(name="again")
    both = nodes("ADE_InjectI2VIntoAnimateDiffModel", model_name=name, motion_model=other)[0]
    with_picture = sample(use(both, latents(1)))
    assert not torch.allclose(with_picture, sample(use(other)), rtol=0.1)
    assert torch.equal(sample(use(both)), sample(use(other)))
    with pytest.raises(ValueError, match=r"'other' has no image encoder\. Load an AnimateLCM-I2V file"):
        use(other, latents(1))
    assert torch.equal(sample(use(both, latents(1))), with_picture)


def test_one_file_applied_twice(load, nodes, new_model, sample):
    motion_model, encoder_only = load()
    more = {"ref_latent": {"samples": latents(1)}, "ref_drift": 0.0, "apply_ref_when_disabled": False, **RANGE}
    first = nodes("ADE_ApplyAnimateLCMI2VModel", motion_model=motion_model, **more)[0]
    second = nodes("ADE_ApplyAnimateLCMI2VModel", motion_model=motion_model, prev_m_models=first, **more)[0]
    third = nodes("ADE_ApplyAnimateLCMI2VModel", motion_model=encoder_only, prev_m_models=second, **more)[0]
    model = nodes("ADE_UseEvolvedSampling", model=new_model(), m_models=third, beta_schedule="lcm")[0]
    assert len(model.get_additional_models_with_key("AnimateDiff.adapters")) == 1  # the same encoder
    assert torch.isfinite(sample(model)).all()


def test_the_encoder_is_loaded_and_offloaded_by_the_host(load, use, sample):
    import comfy.model_management

    motion_model, _ = load()
    model = use(motion_model, latents(1))
    (encoder,) = model.get_additional_models_with_key("AnimateDiff.adapters")
    loaded = []
    sample(
        model,
        callback=lambda *_: loaded.append({id(m.model.model) for m in comfy.model_management.current_loaded_models}),
    )
    assert id(encoder.model) in loaded[0]
    assert encoder in model.get_nested_additional_models()


def test_motion_model_alone_has_no_further_network(load, use):
    motion_model, _ = load()
    assert not use(motion_model).get_additional_models_with_key("AnimateDiff.adapters")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"body.3.block1.weight": torch.zeros(64, 64, 1, 1)}, r"of the wrong shape \(body\.3\.block1\.weight is"),
        ({"more": torch.zeros(1)}, r"tensors are unknown \(more\)"),
        ({"conv_in.bias": torch.full((32,), math.nan)}, r"its tensor conv_in\.bias holds NaN"),
    ],
)
def test_a_defective_encoder_is_refused(load, changed, message):
    with pytest.raises(ValueError, match=message):
        load(changed=changed)


def test_latents_of_other_kinds_are_refused(load, use, sample):
    motion_model, _ = load()
    with pytest.raises(ValueError, match=r"the shape \(1, 16, 8, 8\), .* takes pictures of 4 channels"):
        use(motion_model, torch.zeros(1, 16, 8, 8))


def test_the_loader_takes_files_with_a_prefix(load, use, sample):
    plain, prefixed = load()[0], load(name="prefixed", prefix="module.")[0]
    assert torch.equal(sample(use(plain, latents(1))), sample(use(prefixed, latents(1))))


def test_beside_the_encoder_alone_the_motion_model_says_how_the_clip_is_sampled(
    load, nodes, new_motion, new_model, sample, pack
):
    """Its noise schedule, and for v1 models the joint group norm."""
    _, encoder_only = load()
    v1 = new_motion(name="first", mid=False, frames=24)
    assert v1.model.spec.joint_group_norm
    more = {"ref_latent": {"samples": latents(1)}, "ref_drift": 0.0, "apply_ref_when_disabled": False, **RANGE}
    below = nodes("ADE_ApplyAnimateDiffModel", motion_model=v1, **RANGE)[0]
    both = nodes("ADE_ApplyAnimateLCMI2VModel", motion_model=encoder_only, prev_m_models=below, **more)[0]
    model = new_model()
    made = [
        nodes("ADE_UseEvolvedSampling", model=model, m_models=each, beta_schedule="autoselect")[0]
        for each in (below, both)
    ]
    sigmas = [each.get_model_object("model_sampling").sigmas for each in made]
    assert torch.equal(*sigmas)
    motion = pack.submodule("sampling.motion.feature").Motion
    feature_of = pack.submodule("sampling.animate").feature_of
    assert all(feature_of(each, motion).joint_group_norm for each in made)


def test_a_motion_lora_is_not_trained_with_a_picture(load, use, pack):
    training = pack.submodule("training.motion_lora")
    motion_model, _ = load()
    with pytest.raises(training.TrainingFailed, match="'i2v' is applied with one"):
        training.train_motion_lora(use(motion_model, latents(1)), [], [], None, None, 2, 1.0)


@pytest.mark.parametrize("pictures", [1, 7])
def test_windows_in_one_batch_start_each_from_its_pictures(load, use, sample, nodes, alike_in_one_batch, pictures):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=1)[0]
    (motion_model, _), effect = load(), torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0))

    def animated(contexts):
        return use(motion_model, latents(pictures), drift=0.3, context=contexts, effect_multival=effect)

    alike_in_one_batch(animated, lambda model: sample(model, frames=7, steps=2), context)
