"""Windows inside temporal attention, against the plain attention of each window's frames alone."""

import math
from dataclasses import replace

import pytest
import torch

CHANNELS, FRAMES, CLIPS, HEIGHT, WIDTH = 32, 7, 2, 2, 3
# the last one lists a frame twice, as windows of looped schedules with strides may
WINDOWS = ([0, 1, 2, 3], [2, 3, 4, 5], [5, 6, 0, 1], [3, 6, 3, 4])
NAME = "down_blocks.0.motion_modules.0"
ATTENTION = f"{NAME}.temporal_transformer.transformer_blocks.0.attention_blocks"


@pytest.fixture
def call(pack):
    return pack.submodule("motion_models.network.call")


@pytest.fixture
def module(pack):
    """One motion module in float64, so that what is compared is the algebra."""
    temporal, spec = pack.submodule("motion_models.network.temporal"), pack.submodule("motion_models.spec")
    shape = spec.MotionModelSpec(
        "test", "AnimateDiff", "v2", ((CHANNELS,),), (), (), parameters=0, attention_blocks=2, heads=4, max_frames=16
    )
    model = temporal.MotionModel(shape, torch.float64).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = 1 + 0.2 * noise if "norm" in name and "weight" in name else noise * 1.5 / math.sqrt(CHANNELS)
    for buffer in model.buffers():
        buffer.data = buffer.double()
    return model.down_blocks[0].motion_modules[0]


@pytest.fixture
def views(pack):
    network = pack.submodule("motion_models.network.views")

    def make(windows=WINDOWS, shared=True, one_motion=None):
        weights = [torch.arange(1.0, 1 + len(window)) for window in windows]
        return network.Views(tuple(map(network.View, windows, weights)), shared, one_motion)

    return make


def hidden(seed=1):
    shape = (CLIPS * FRAMES, CHANNELS, HEIGHT, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def told(call, pack):
    """`told(what)`: MotionInputs with something that acts inside attention, of each kind that there is."""
    strength = pack.submodule("motion_models.network.strength")
    features = pack.submodule("motion_models.network.features")

    def low_rank(strengths):
        names = [f"{ATTENTION}.{i}.{layer}" for i in (0, 1) for layer in ("to_q", "to_k", "to_v", "to_out.0")]
        return {
            name: tuple(
                call.LowRank(random(2, CHANNELS, seed=9 * i + j) * 0.2, random(CHANNELS, 2, seed=50 + i + j) * 0.2, one)
                for j, one in enumerate(strengths)
            )
            for i, name in enumerate(names)
        }

    picture = strength.FrameMask(torch.rand(FRAMES, 4, 6, generator=torch.Generator().manual_seed(3)), FRAMES)
    of_frame = strength.FrameMask(torch.linspace(0.2, 1.7, FRAMES).view(FRAMES, 1, 1), FRAMES)

    def merge():
        layer = torch.nn.Linear(CHANNELS, CHANNELS).double().requires_grad_(False)
        layer.weight.data, layer.bias.data = random(CHANNELS, CHANNELS, seed=70) * 0.1, random(CHANNELS, seed=71)
        return call.Merge(layer, features.FrameFeatures(random(FRAMES, CHANNELS, HEIGHT, WIDTH, seed=72)), picture)

    def projection():
        layer = torch.nn.Linear(CHANNELS + 3, CHANNELS).double().requires_grad_(False)
        layer.weight.data = random(CHANNELS, CHANNELS + 3, seed=80) * 0.2
        return call.Projection(layer, features.FrameFeatures(random(FRAMES, 3, 1, 1, seed=81)))

    def make(what):
        one = call.ModuleInputs
        return {
            "nothing": lambda: call.MotionInputs(),
            "scale": lambda: call.MotionInputs(one((1.3, 0.7))),
            "scale masks": lambda: call.MotionInputs(one((picture, of_frame))),
            "effect": lambda: call.MotionInputs(one(effect=picture)),
            "LoRA": lambda: call.MotionInputs(low_rank=low_rank([0.8])),
            "LoRAs that vary": lambda: call.MotionInputs(low_rank=low_rank([of_frame, 0.5, picture])),
            "camera": lambda: call.MotionInputs(merges={f"{ATTENTION}.0": merge()}),
            "camera and LoRA": lambda: call.MotionInputs(
                merges={f"{ATTENTION}.1": merge()}, low_rank=low_rank([of_frame])
            ),
            "behind attention": lambda: call.MotionInputs(projections={f"{ATTENTION}.0": projection()}),
        }[what]()

    return make


WHAT = [
    "nothing",
    "scale",
    "scale masks",
    "effect",
    "LoRA",
    "LoRAs that vary",
    "camera",
    "camera and LoRA",
    "behind attention",
]


@pytest.fixture
def by_hand(pack, module):
    """`by_hand(inputs, views, shared)`: the module with every view computed from its frames alone, then averaged."""
    parts = pack.submodule("motion_models.network.parts")

    def averaged(x, views, compute):
        """``compute(frames)`` of each view, by the views' weights."""
        total, weights = torch.zeros_like(x), torch.zeros(FRAMES, 1, dtype=torch.float64)
        for view in views.each:
            made = compute(view.frames)
            for i, frame in enumerate(view.frames):
                total[:, frame] += made[:, i] * view.weights[i]
                weights[frame] += view.weights[i]
        return total / weights

    def of_frames(inputs, scales, frames):
        return parts.in_view(inputs, scales, frames)

    def attend(block, inputs, x, scales, views, frames=None):
        """Attention and residual one after the other, of all frames or of some."""
        if frames is not None:
            inputs, scales = of_frames(inputs, scales, frames)
        for i, (attention, norm) in enumerate(zip(block.attention_blocks, block.norms, strict=True)):

            def one(frames, i=i, attention=attention, norm=norm, x=x):
                told, scale = of_frames(inputs, scales, frames) if views else (inputs, scales)
                return attention(norm(x[:, frames]) if views else norm(x), told, scale[i] if scale else None)

            x = x + (averaged(x, views, one) if views else one(None))
            after = inputs.projections.get(attention.layer_name)
            if after is not None:
                x = after.layer(torch.cat([x, after.features.expand(len(x), -1, -1)], dim=-1))
        return x

    def make(inputs, views, x):
        block = module.temporal_transformer.transformer_blocks[0]

        class ByHand(torch.nn.Module):
            def forward(self, x, told, scales):
                told = replace(told, views=None)
                if views.shared:
                    x = attend(block, told, x, scales, views)
                else:
                    x = averaged(x, views, lambda frames: attend(block, told, x[:, frames], scales, None, frames))
                return x + block.ff(block.ff_norm(x))

        module.temporal_transformer.transformer_blocks = torch.nn.ModuleList([ByHand()])
        try:
            return module(x, FRAMES, inputs)
        finally:
            module.temporal_transformer.transformer_blocks = torch.nn.ModuleList([block])

    return make


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("what", WHAT)
def test_each_view_is_attended_to_alone_and_blended(module, told, views, by_hand, what, shared):
    inputs, x, division = told(what), hidden(), views(shared=shared)
    expected = by_hand(inputs, division, x)
    found = module(x, FRAMES, replace(inputs, views=division))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(found, module(x, FRAMES, inputs), rtol=1e-2, atol=1e-2)  # the windows matter


@pytest.mark.parametrize("rows", [1, 100, 10**6])
@pytest.mark.parametrize("what", ["LoRAs that vary", "camera"])
def test_views_side_by_side_in_batches_of_any_size(pack, module, told, views, by_hand, monkeypatch, what, rows):
    monkeypatch.setattr(pack.submodule("motion_models.network.temporal"), "ROWS_ON_CPU", rows)
    inputs, x, division = told(what), hidden(), views(([0, 1, 2, 3], [2, 3, 4, 5], [1, 4, 6], [6, 0, 5]))
    found = module(x, FRAMES, replace(inputs, views=division))
    torch.testing.assert_close(found, by_hand(inputs, division, x), rtol=1e-10, atol=1e-10)


@pytest.fixture
def one_motion(pack):
    return pack.submodule("sampling.windows.one_motion")


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("what", ["nothing", "scale masks", "LoRA", "camera"])
def test_what_is_slow_comes_from_all_frames(pack, module, told, views, one_motion, what, closed):
    """The projection on the slow components is that of attention over the whole clip, the rest that of the windows."""
    one = one_motion.OneMotionOptions(strength=0.7, cut_off=0.5).in_call(FRAMES, 4, closed, step=1)
    inputs, x = told(what), hidden()
    attention = module.temporal_transformer.transformer_blocks[0].attention_blocks[0]
    positions, parts = pack.submodule("motion_models.network.positions"), pack.submodule("motion_models.network.parts")
    sizes = [CLIPS * HEIGHT * WIDTH]
    scales = inputs.module(NAME).scale
    ((inputs, scales),) = parts.in_parts(inputs, scales, ATTENTION, sizes, CLIPS, HEIGHT, WIDTH, like=x)
    scale = scales[0] if scales else None
    y = x.unflatten(0, (CLIPS, FRAMES)).flatten(3).permute(0, 3, 1, 2).flatten(0, 1)

    windows = attention(y, replace(inputs, views=views()), scale)
    found = attention(y, replace(inputs, views=views(one_motion=one)), scale)

    table = attention.pos_encoder.pe
    spread = positions.spread(table[:, :4], FRAMES) - table[:, :FRAMES]  # in place of the positions that it adds
    in_order, of_order = parts.in_view(inputs, (scale,), one.order)
    whole = torch.empty_like(y)
    whole[:, one.order] = attention(y[:, one.order] + spread, in_order, of_order[0])
    basis = one.basis.double()
    slow = basis @ basis.T
    # float32 basis
    torch.testing.assert_close(found, windows + 0.7 * (slow @ (whole - windows)), rtol=1e-6, atol=1e-6)
    assert one.order[0] == (3 if closed else 0)
    assert not torch.allclose(found, windows, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("frames", [2, 7, 64])
@pytest.mark.parametrize("cut_off", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", ["cosine_basis", "periodic_basis"])
def test_slow_components_are_orthonormal_and_hold_what_does_not_change(one_motion, name, cut_off, frames):
    basis = getattr(one_motion, name)(frames, cut_off).double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), rtol=0, atol=1e-5)
    still = torch.ones(frames, 1).double()
    torch.testing.assert_close(basis @ (basis.T @ still), still, rtol=0, atol=1e-5)
    if name == "cosine_basis" and cut_off == 1.0:
        assert basis.shape[1] == frames
    if name == "periodic_basis":  # a closed loop has no beginning: moved by a frame they span the same
        moved = basis.roll(1, 0)
        torch.testing.assert_close(basis @ (basis.T @ moved), moved, rtol=0, atol=1e-5)


def test_the_slowest_change_is_half_a_wave_over_the_clip(one_motion):
    basis = one_motion.cosine_basis(16, 0.125)
    assert basis.shape == (16, 2)
    assert (basis[:-1, 1] > basis[1:, 1]).all()
