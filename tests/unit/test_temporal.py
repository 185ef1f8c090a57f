"""The temporal module against the equations of arXiv 2307.04725 (figure 2), and against diffusers."""

import math

import pytest
import torch
from torch.nn import functional as F

CHANNELS, FRAMES, CLIPS, HEIGHT, WIDTH = 64, 6, 2, 5, 3


@pytest.fixture
def temporal(pack):
    return pack.submodule("motion_models.network.temporal")


@pytest.fixture
def inputs(pack):
    """`inputs(scale=…, effect=…, low_rank=…)`: what one call tells a module, the same scale for both attentions."""
    call = pack.submodule("motion_models.network.call")

    def make(scale=None, effect=None, **more):
        scales = scale if isinstance(scale, tuple) else () if scale is None else (scale, scale)
        return call.MotionInputs(call.ModuleInputs(scales, effect), **more)

    return make


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
                u, g = (
                    norm(y, f"{block}ff_norm") @ p[f"{block}ff.net.0.proj.weight"].T + p[f"{block}ff.net.0.proj.bias"]
                ).chunk(2, -1)
                gelu = g * 0.5 * (1 + torch.erf(g / math.sqrt(2)))
                y = y + (u * gelu) @ p[f"{block}ff.net.2.weight"].T + p[f"{block}ff.net.2.bias"]
                out[rows, :, i, j] = y @ p["proj_out.weight"].T + p["proj_out.bias"]
    return out


@pytest.mark.parametrize("scale", [None, 0.0, 0.7, 1.8])
def test_equals_the_equations(new_module, inputs, hidden, scale):
    module = new_module()
    expected = hidden + reference(
        module.temporal_transformer.state_dict(), hidden, FRAMES, 1.0 if scale is None else scale
    )
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
    from diffusers.models.unets import unet_motion_model

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
    _, tensors = pack.submodule("motion_models.files.motion_model").interpret("diffusers", layout, {})
    module.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items()})
    joint_group_norm = pack.submodule("motion_models.network.group_norm").joint_group_norm
    with torch.no_grad():
        with joint_group_norm(module, FRAMES):
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


def gradients(result: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9), dtype=result.dtype)
    return torch.autograd.grad((result * weights).sum(), of)


@pytest.mark.parametrize("most_positions", [4096, 4])
def test_gradients_of_weights_and_input_are_those_of_finite_differences(
    new_module, inputs, hidden, temporal, monkeypatch, most_positions
):
    """Residuals and gates are computed in place, which must not spoil what the backward pass needs."""
    monkeypatch.setattr(temporal, "MAX_POSITIONS", most_positions)
    module = new_module().double()
    x = hidden.double().requires_grad_()
    parameters = dict(module.named_parameters())
    found = gradients(module(x, FRAMES, inputs(scale=1.2, effect=0.7)), x, *parameters.values())
    generator = torch.Generator().manual_seed(4)
    for (name, value), gradient in zip([("x", x), *parameters.items()], found, strict=True):
        assert gradient.abs().max() > 0, name
        direction = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        ends = []
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                value += step * direction
                result = module(x, FRAMES, inputs(scale=1.2, effect=0.7))
                weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9), dtype=result.dtype)
                ends.append((result * weights).sum())
                value -= step * direction
        slope = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-6)


LAYERS = [f"attention_blocks.{block}.{layer}" for block in (0, 1) for layer in ("to_q", "to_k", "to_v", "to_out.0")]
PREFIX = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."


@pytest.fixture
def new_model(pack, temporal, new_module):
    """A MotionModel with one module, and that module."""
    spec = pack.submodule("motion_models.spec").MotionModelSpec(
        "test", "AnimateDiff", "v2", ((CHANNELS,),), (), (), 2, 8, 32, 0
    )

    def new():
        model = temporal.MotionModel(spec).eval()
        module = model.down_blocks[0].motion_modules[0]
        module.load_state_dict(new_module().state_dict())
        return model.requires_grad_(False), module

    return new


@pytest.fixture
def new_low_rank(pack):
    """A change of every projection of the module: `(layer name -> changes, layer name -> weight difference)`."""
    low_rank = pack.submodule("motion_models.network.call").LowRank
    strength_of = pack.submodule("motion_models.network.strength").strength_of

    def new(strength=1.0, seed=5, dtype=torch.float32):
        strength = strength_of(strength, FRAMES)
        generator = torch.Generator().manual_seed(seed)
        changes = {}
        for layer in LAYERS:
            down, up = (torch.randn(shape, generator=generator) * 0.1 for shape in ((3, CHANNELS), (CHANNELS, 3)))
            changes[PREFIX + layer] = (low_rank(down.to(dtype), up.to(dtype), strength),)
        return changes

    return new


def merged(new_model, changes: dict, strength: float):
    """The module with the changes added to its weights."""
    model, module = new_model()
    for name, (change,) in changes.items():
        model.get_submodule(name).weight.data += strength * change.up.float() @ change.down.float()
    return module


def test_a_low_rank_change_is_that_of_the_weights(new_model, new_low_rank, inputs, hidden):
    _, module = new_model()
    changes = new_low_rank(0.6)
    expected = merged(new_model, changes, 0.6)(hidden, FRAMES, inputs())
    assert relative(expected, module(hidden, FRAMES, inputs())) > 0.01
    assert relative(module(hidden, FRAMES, inputs(low_rank=changes)), expected) < 1e-6


def test_low_rank_changes_of_one_layer_add_up(new_model, new_low_rank, inputs, hidden):
    _, module = new_model()
    one, other = new_low_rank(0.6), new_low_rank(-0.3, seed=6)
    both = {name: one[name] + other[name] for name in one}
    model, expected = new_model()
    for changes in (one, other):
        for name, (change,) in changes.items():
            model.get_submodule(name).weight.data += change.strength * change.up @ change.down
    result = module(hidden, FRAMES, inputs(low_rank=both))
    assert relative(result, expected(hidden, FRAMES, inputs())) < 1e-6


def test_low_rank_changes_take_the_dtype_of_the_hidden_states(new_model, new_low_rank, inputs, hidden):
    _, module = new_model()
    changes = new_low_rank(dtype=torch.float16)
    result = module.to(torch.bfloat16)(hidden.bfloat16(), FRAMES, inputs(low_rank=changes))
    assert result.dtype == torch.bfloat16
    assert relative(result, merged(new_model, changes, 1.0)(hidden, FRAMES, inputs())) < 2e-2


@pytest.mark.parametrize("most_positions", [4096, 4])
def test_a_mask_says_where_a_low_rank_change_acts(
    new_model, new_low_rank, inputs, hidden, temporal, monkeypatch, most_positions
):
    """Positions are independent behind the group norm: each must be as if its strength held everywhere."""
    monkeypatch.setattr(temporal, "MAX_POSITIONS", most_positions)
    _, module = new_model()
    mask = torch.zeros(FRAMES, HEIGHT, WIDTH)
    mask[:, :2] = 1.0
    mask[:, 4, 1:] = 0.5
    result = module(hidden, FRAMES, inputs(low_rank=new_low_rank(mask)))
    for strength in (0.0, 0.5, 1.0):
        expected = module(hidden, FRAMES, inputs(low_rank=new_low_rank(strength)))
        where = (mask[0] == strength).nonzero(as_tuple=True)
        assert relative(result[:, :, where[0], where[1]], expected[:, :, where[0], where[1]]) < 1e-6


def test_masks_are_resized_and_equal_frames_equal_a_strength_per_frame(new_model, new_low_rank, inputs, hidden):
    _, module = new_model()
    strengths = torch.linspace(0, 1, FRAMES)[:, None, None]
    per_frame = module(hidden, FRAMES, inputs(low_rank=new_low_rank(strengths)))
    masks = strengths.expand(-1, 64, 40)
    assert relative(module(hidden, FRAMES, inputs(low_rank=new_low_rank(masks))), per_frame) < 1e-6
    assert relative(module(hidden, FRAMES, inputs(low_rank=new_low_rank(0.5))), per_frame) > 1e-3


def test_a_strength_per_frame_acts_on_that_frame(new_model, new_low_rank, inputs, hidden):
    """Behind the last attention frames no longer see each other: only the frame with a strength may change."""
    _, module = new_model()
    only_first = torch.zeros(FRAMES, 1, 1)
    only_first[0] = 1.0
    last = f"{PREFIX}attention_blocks.1.to_out.0"

    def result(strength):
        change = {last: new_low_rank(strength)[last]}
        return module(hidden, FRAMES, inputs(low_rank=change)).unflatten(0, (CLIPS, FRAMES))

    torch.testing.assert_close(result(only_first)[:, 0], result(1.0)[:, 0])
    torch.testing.assert_close(result(only_first)[:, 1:], result(0.0)[:, 1:])
    assert relative(result(1.0), result(0.0)) > 1e-3


@pytest.mark.parametrize("strength", [0.6, "per frame", "mask"])
@pytest.mark.parametrize("most_positions", [4096, 4])
def test_low_rank_changes_can_be_trained(
    new_model, new_low_rank, inputs, hidden, temporal, monkeypatch, strength, most_positions
):
    """Every matrix gets the gradient that it gets through the merged weights."""
    monkeypatch.setattr(temporal, "MAX_POSITIONS", most_positions)
    _, module = new_model()
    shape = {"per frame": (FRAMES, 1, 1), "mask": (FRAMES, 7, 9)}.get(strength)
    changes = new_low_rank(0.6 if shape is None else torch.full(shape, 0.6))
    trained = [matrix.requires_grad_() for (change,) in changes.values() for matrix in (change.down, change.up)]
    found = gradients(module(hidden, FRAMES, inputs(low_rank=changes)), *trained)

    _, through_weights = new_model()
    deltas = {
        f"{name.removeprefix('down_blocks.0.motion_modules.0.')}.weight": 0.6 * change.up @ change.down
        for name, (change,) in changes.items()
    }
    weights = {name: value + deltas.get(name, 0) for name, value in through_weights.state_dict().items()}
    result = torch.func.functional_call(through_weights, weights, (hidden, FRAMES, inputs()))
    for gradient, expected in zip(found, gradients(result, *trained), strict=True):
        assert expected.norm() > 0
        assert relative(gradient, expected) < 1e-4


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.fixture
def frame_mask(pack):
    return pack.submodule("motion_models.network.strength").FrameMask


def test_a_mask_scales_keys_by_place_and_frame(new_module, inputs, hidden, frame_mask):
    """Equal to what each place computes with its own frames' scales."""
    module = new_module()
    mask = torch.rand(FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5)) + 0.5
    result = module(hidden, FRAMES, inputs(scale=frame_mask(mask, FRAMES)))
    transformer = module.temporal_transformer
    added = result - hidden
    y = transformer.norm(hidden)
    for row, column in ((0, 0), (4, 2), (2, 1)):
        at_place = y[:, :, row, column].unflatten(0, (CLIPS, FRAMES))
        keys = mask[:, row, column].view(1, FRAMES, 1)
        expected = transformer._positions(at_place, inputs(), (keys, keys))
        torch.testing.assert_close(
            added[:, :, row, column].unflatten(0, (CLIPS, FRAMES)), expected, rtol=1e-4, atol=1e-5
        )


def test_each_attention_has_a_scale_of_its_own(new_module, inputs, hidden, frame_mask):
    module = new_module()
    constant = frame_mask(torch.full((1, 2, 2), 1.3), FRAMES)
    mixed = module(hidden, FRAMES, inputs(scale=(constant, 0.4)))
    assert relative(mixed, module(hidden, FRAMES, inputs(scale=(1.3, 0.4)))) < 1e-6
    assert relative(mixed, module(hidden, FRAMES, inputs(scale=(0.4, 1.3)))) > 1e-3


def test_an_effect_mask_mixes_by_place_and_frame(new_module, inputs, hidden, frame_mask):
    module = new_module()
    mask = torch.rand(FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(6))
    full = module(hidden, FRAMES, inputs())
    weight = mask.repeat(CLIPS, 1, 1).unsqueeze(1)
    expected = hidden * (1 - weight) + full * weight
    torch.testing.assert_close(module(hidden, FRAMES, inputs(effect=frame_mask(mask, FRAMES))), expected)


def test_a_mask_is_resized_once_for_all_windows_and_multiples_of_it(frame_mask):
    mask = frame_mask(torch.rand(2, 4, 4), frames=3)
    like = torch.zeros(1)
    half = mask.times(0.5).in_window([2, 0]).at(2, 2, like)
    (made,) = mask.made.values()
    assert torch.equal(half, made[[2, 0]] * 0.5)
    assert mask.in_window(None).at(2, 2, like.half()).dtype == torch.float16
    assert len(mask.made) == 1


def test_masks_follow_windows_and_their_last_picture_repeats(frame_mask):
    pictures = torch.arange(3.0).view(3, 1, 1).expand(3, 4, 4)
    mask = frame_mask(pictures, frames=6)
    like = torch.zeros(1)
    assert mask.at(2, 2, like)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2]
    assert mask.in_window([5, 1, 0]).at(8, 8, like)[:, 0, 0, 0].tolist() == [2, 1, 0]


def test_a_named_module_has_its_own_strengths(new_module, inputs, pack, hidden):
    call = pack.submodule("motion_models.network.call")
    module = new_module()
    module.layer_name = "down_blocks.0.motion_modules.1"
    named = call.MotionInputs(call.ModuleInputs(effect=0.5), {module.layer_name: call.ModuleInputs(effect=0.0)})
    assert module(hidden, FRAMES, named) is hidden


def test_attention_of_bf16_on_the_cpu_is_computed_in_float32(pack):
    # Pytorch's bf16 kernel rounds on the way (and its backward pass takes many times longer).
    attend = pack.submodule("host.attention").temporal_attention()
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 32, 16, CHANNELS, generator=generator).to(torch.bfloat16)
    expected = attend(q.float(), k.float(), v.float(), 8).to(torch.bfloat16)
    assert torch.equal(attend(q, k, v, 8), expected)


@pytest.mark.parametrize("frames", [16, 24], ids=["by the formula", "by the kernel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_for_training_is_that_of_sampling(pack, frames, dtype):
    attention = pack.submodule("host.attention")
    values = torch.randn(3, 6, frames, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    results = []
    for attend in (attention.attention_for_training(), attention.temporal_attention()):
        inputs = [x.clone().requires_grad_() for x in values]
        attended = attend(*inputs, 2)
        assert attended.dtype == dtype
        (attended.float() ** 2).sum().backward()
        results.append([attended, *(x.grad for x in inputs)])
    exact = 1e-6 if dtype == torch.float32 else 2**-7
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=exact, atol=exact)
