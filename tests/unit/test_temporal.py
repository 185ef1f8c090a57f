"""The temporal module against the equations of arXiv 2307.04725 (figure 2), and against diffusers."""

import math

import pytest
import torch
from torch.nn import functional as F

CHANNELS, FRAMES, CLIPS, HEIGHT, WIDTH = 64, 6, 2, 5, 3


@pytest.fixture
def temporal(pack):
    return pack.submodule("motion_models.temporal")


@pytest.fixture
def inputs(pack):
    return pack.submodule("motion_models.call").MotionInputs


@pytest.fixture
def new_module(pack, temporal):
    spec = pack.submodule("motion_models.spec").MotionModelSpec

    def new(dtype=torch.float32, channels=CHANNELS, **changes):
        fields = {"attention_blocks": 2, "heads": 8, "max_frames": 32, **changes}
        shape = spec("test", "AnimateDiff", "v2", ((channels,),), (), (), parameters=0, **fields)
        module = temporal.MotionModule(channels, shape, dtype).eval()
        generator = torch.Generator().manual_seed(0)
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # unlike the identity a norm starts as, and sharp enough attention that a wrong key shows
            value = 1 + 0.2 * noise if "norm" in name and "weight" in name else noise * 1.5 / math.sqrt(channels)
            parameter.data = value.to(dtype)
        return module

    return new


@pytest.fixture
def hidden():
    return torch.randn(CLIPS * FRAMES, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def reference(state: dict, x: torch.Tensor, frames: int, scale: float = 1.0) -> torch.Tensor:
    """The temporal transformer without its residual, written out in float64, one spatial position at a time."""
    p = {name: value.double() for name, value in state.items()}
    block = "transformer_blocks.0."
    channels = x.shape[1]
    position = torch.arange(frames, dtype=torch.float64)[:, None]
    omega = torch.exp(-2 * torch.arange(channels // 2, dtype=torch.float64) * math.log(10000) / channels)
    table = torch.stack([(position * omega).sin(), (position * omega).cos()], dim=-1).reshape(frames, channels)

    def norm(y, name):
        return F.layer_norm(y, (channels,), p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)

    def attend(z, name):
        q, k, v = (z @ p[f"{name}.to_{w}.weight"].T for w in "qkv")
        heads = []
        for part in range(8):
            s = slice(part * channels // 8, (part + 1) * channels // 8)
            logits = q[:, s] @ (k[:, s] * scale).T / math.sqrt(channels / 8)
            heads.append(logits.softmax(-1) @ v[:, s])
        return torch.cat(heads, -1) @ p[f"{name}.to_out.0.weight"].T + p[f"{name}.to_out.0.bias"]

    normed = F.group_norm(x.double(), 32, p["norm.weight"], p["norm.bias"], 1e-6)
    out = torch.zeros_like(normed)
    for clip in range(x.shape[0] // frames):
        rows = slice(clip * frames, (clip + 1) * frames)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                y = normed[rows, :, i, j] @ p["proj_in.weight"].T + p["proj_in.bias"]
                for a in range(2):
                    y = y + attend(norm(y, f"{block}norms.{a}") + table, f"{block}attention_blocks.{a}")
                u, g = (norm(y, f"{block}ff_norm") @ p[f"{block}ff.net.0.proj.weight"].T + p[f"{block}ff.net.0.proj.bias"]).chunk(2, -1)
                gelu = g * 0.5 * (1 + torch.erf(g / math.sqrt(2)))
                y = y + (u * gelu) @ p[f"{block}ff.net.2.weight"].T + p[f"{block}ff.net.2.bias"]
                out[rows, :, i, j] = y @ p["proj_out.weight"].T + p["proj_out.bias"]
    return out


@pytest.mark.parametrize("scale", [None, 0.0, 0.7, 1.8])
def test_equals_the_equations(new_module, inputs, hidden, scale):
    module = new_module()
    expected = hidden + reference(module.temporal_transformer.state_dict(), hidden, FRAMES, 1.0 if scale is None else scale)
    assert relative(module(hidden, FRAMES, inputs(scale=scale)), expected) < 1e-5


def test_effect_blends_the_module_with_its_input(new_module, inputs, hidden):
    module = new_module()
    full = module(hidden, FRAMES, inputs())
    assert module(hidden, FRAMES, inputs(effect=0.0)) is hidden
    torch.testing.assert_close(module(hidden, FRAMES, inputs(effect=0.25)), 0.75 * hidden + 0.25 * full)


def test_clips_of_a_batch_do_not_see_each_other(new_module, inputs, hidden):
    module = new_module()
    together = module(hidden, FRAMES, inputs())
    apart = torch.cat([module(clip, FRAMES, inputs()) for clip in hidden.split(FRAMES)])
    torch.testing.assert_close(together, apart)


def test_equals_diffusers_with_joint_group_norm(pack, new_module, inputs, hidden):
    """diffusers' group norm is always joint over frames, as ours is for v1 motion models."""
    unet_motion_model = pytest.importorskip("diffusers.models.unets.unet_motion_model")
    theirs = unet_motion_model.AnimateDiffTransformer3D(
        num_attention_heads=8,
        attention_head_dim=CHANNELS // 8,
        in_channels=CHANNELS,
        double_self_attention=True,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    ).eval()
    module = new_module()
    prefix = "down_blocks.0.motion_modules.0."
    layout = {prefix + name: value for name, value in theirs.state_dict().items()}
    _, tensors = pack.submodule("motion_models.files").interpret("diffusers", layout, {})
    module.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items()})
    joint_group_norm = pack.submodule("motion_models.group_norm").joint_group_norm
    with torch.no_grad():
        with joint_group_norm(module, CLIPS):
            ours = module(hidden, FRAMES, inputs())
        assert relative(ours, theirs(hidden, num_frames=FRAMES)) < 1e-5


def test_positions_computed_in_parts_give_the_same(new_module, inputs, hidden, temporal, monkeypatch):
    module = new_module()
    together = module(hidden, FRAMES, inputs())
    monkeypatch.setattr(temporal, "MAX_POSITIONS", 4)
    torch.testing.assert_close(module(hidden, FRAMES, inputs()), together)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("pixels", [512, 1024, 2048])
def test_attention_never_exceeds_a_grid_limit(temporal, device, pixels):
    for channels, size in ((320, pixels // 8), (1280, pixels // 64)):
        positions = 2 * size * size
        at_once = temporal.positions_at_once(positions, 16, channels, torch.device(device))
        assert 1 <= at_once <= positions
        assert at_once * 8 <= 65_535


@pytest.mark.parametrize("frames", [1, 2, 16, 32])
def test_takes_any_number_of_frames_up_to_its_table(new_module, inputs, frames):
    x = torch.randn(frames, CHANNELS, 2, 2)
    assert new_module()(x, frames, inputs()).shape == x.shape


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_weights_and_hidden_states_of_different_dtypes(new_module, inputs, hidden, weights, hidden_dtype):
    module = new_module(weights)
    exact = new_module()
    exact.load_state_dict({name: value.float() for name, value in module.state_dict().items()})
    result = module(hidden.to(hidden_dtype), FRAMES, inputs())
    assert result.dtype == hidden_dtype
    assert relative(result, exact(hidden, FRAMES, inputs())) < (1e-5 if hidden_dtype == torch.float32 else 2e-2)


def test_weight_patches_applied_on_the_way_are_honoured(new_module, inputs, hidden):
    """How the host applies LoRAs to layers that do not fit into VRAM: as each layer is used."""
    module = new_module(torch.float16)
    before = module(hidden, FRAMES, inputs())
    module.temporal_transformer.proj_out.weight_function = [lambda weight: weight * 2]
    assert relative(module(hidden, FRAMES, inputs()), before) > 0.1


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()
