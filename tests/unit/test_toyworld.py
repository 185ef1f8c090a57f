"""What the toy world's claims rest on: its measures read scenes back as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest

LOOKS = ("draw_still", "draw_personalised", "draw_video_frame")


@pytest.fixture
def scenes(toyworld):
    return toyworld("scenes")


@pytest.fixture
def measure(toyworld):
    return toyworld("measure")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("look", LOOKS)
def test_shape_colour_and_place_are_read_back(scenes, measure, rng, look):
    for _ in range(60):
        scene = scenes.random_scene(rng)
        seen = measure.look(getattr(scenes, look)(scene))
        assert seen.caption == scene.caption
        assert np.hypot(seen.x - scene.x, seen.y - scene.y) < 1


def test_nothing_is_seen_on_empty_ground(scenes, measure):
    empty = np.ones((64, 64, 3), np.float32) * scenes.GROUND
    assert measure.look(empty) is None
    assert measure.follow(np.stack([empty] * 16)) is None


def test_direction_and_distance_are_those_drawn(scenes, measure, rng):
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        path = scenes.random_path(rng, angle)
        track = measure.follow(scenes.video(path))
        drawn = np.array((path[-1].x - path[0].x, path[-1].y - path[0].y))
        assert track.angle_to(angle) < 3
        assert np.linalg.norm(track.displacement - drawn) < 1
        assert track.jump == pytest.approx(np.linalg.norm(drawn) / 15, abs=0.2)


def test_ways_stay_in_the_frame_and_some_are_curves(scenes, rng):
    ways = [scenes.random_way(rng, caption) for caption in scenes.CAPTIONS * 5]
    bends = []
    for way in ways:
        places = np.array([(scene.x, scene.y) for scene in way])
        assert len(way) == scenes.FRAMES
        assert (places >= way[0].radius).all() and (places <= scenes.SIZE - way[0].radius).all()
        (x, y), (mid_x, mid_y) = places[-1] - places[0], places[8] - places[0]
        assert 16 <= np.hypot(x, y) <= 44
        bends.append(abs(x * mid_y - y * mid_x) / (x**2 + y**2))
    assert min(bends) < 0.05 < 0.2 < max(bends)


def test_growth_of_a_zoom(scenes, measure, rng):
    path = scenes.random_zoom(rng)
    drawn = path[-1].radius / path[0].radius
    assert measure.follow(scenes.video(path)).growth == pytest.approx(drawn, rel=0.06)


def test_steps_around_a_loop(scenes, measure):
    """A square walk of four places, 10 pixels from each to the next and as far home."""
    places = [(20, 20), (30, 20), (30, 30), (20, 30)]
    walk = [scenes.draw_still(scenes.Scene("circle", "red", x, y, 10.0)) for x, y in places]
    assert measure.steps_around(np.stack(walk)) == pytest.approx([10] * 4, abs=0.2)
    empty = np.ones((64, 64, 3), np.float32) * scenes.GROUND
    lost = measure.steps_around(np.stack([*walk[:3], empty]))
    assert lost[:2] == pytest.approx([10, 10], abs=0.2)
    assert np.isnan(lost[2:]).all()


def test_colour_and_size_that_do_not_keep(scenes, measure):
    def clip(colours, radii):
        drawn = zip(colours, radii, strict=True)
        return np.stack([scenes.draw_still(scenes.Scene("circle", c, 32.0, 32.0, r)) for c, r in drawn])

    steady = clip(["red"] * 8, [10.0] * 8)
    assert measure.colour_deviation(steady) == pytest.approx(0, abs=0.01)
    assert measure.follow(steady).unsteadiness == pytest.approx(0, abs=0.01)
    apart = 255 * np.linalg.norm(np.subtract(scenes.COLOURS["red"], scenes.COLOURS["green"])) / 2
    assert measure.colour_deviation(clip(["red", "green"] * 4, [10.0] * 8)) == pytest.approx(apart, rel=0.01)
    assert measure.follow(clip(["red"] * 8, [9.0, 11.0] * 4)).unsteadiness == pytest.approx(np.log(11 / 9), rel=0.1)
    assert measure.follow(clip(["red"] * 8, np.geomspace(8, 14, 8))).unsteadiness < 0.05  # growth is none


def test_the_watermark_is_measured_by_its_strength(scenes, measure, rng):
    for alpha in (0.0, 0.1, scenes.WATERMARK_ALPHA):
        frames = np.stack([scenes.add_domain_gap(scenes.draw_still(scenes.random_scene(rng)), alpha) for _ in range(4)])
        assert measure.watermark(frames) == pytest.approx(alpha, abs=0.01)


def test_styles_differ_and_repeat(scenes, measure, rng):
    def style(draw):
        return measure.style(np.stack([draw(scenes.random_scene(rng)) for _ in range(40)]))

    between = np.linalg.norm(style(scenes.draw_still) - style(scenes.draw_personalised))
    for draw in (scenes.draw_still, scenes.draw_personalised):
        assert np.linalg.norm(style(draw) - style(draw)) < 0.05 * between


def test_clips_stay_inside_the_frame(scenes, rng):
    for _ in range(200):
        for scene in scenes.random_path(rng):
            assert scene.radius <= scene.x <= scenes.SIZE - scene.radius
            assert scene.radius <= scene.y <= scenes.SIZE - scene.radius


def test_videos_are_written_without_loss(toyworld, scenes, rng, tmp_path):
    import av

    frames = scenes.video(scenes.random_path(rng))
    toyworld("videos").write_video(tmp_path / "clip.avi", frames)
    with av.open(str(tmp_path / "clip.avi")) as container:
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(read, (frames * 255).round().astype(np.uint8))


def test_the_live_unet_is_the_full_one_without_its_dead_channels(toyworld):
    """The network that the scripts train computes what ComfyUI's computes with the expanded weights."""
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = toyworld("unet")
    torch.manual_seed(0)
    live = unet.live_unet().eval().requires_grad_(False)
    for parameter in live.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    operations = comfy.ops.disable_weight_init
    full = UNetModel(**unet.SHAPE, model_channels=320, num_heads=8, context_dim=768, operations=operations)
    weights = live.state_dict()
    full.load_state_dict({name: unet.place(weights[name], shape) for name, shape in unet.full_unet_shapes().items()})
    x, context = torch.randn(2, 4, 8, 8), torch.zeros(2, 77, 768)
    context[..., : unet.LIVE_TEXT] = torch.randn(2, 77, unet.LIVE_TEXT)
    t = torch.tensor([500.0, 20.0])
    with torch.no_grad():
        expected = full(x, t, context=context)
        torch.testing.assert_close(live(x, t, context=context[..., : unet.LIVE_TEXT]), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_live_parts_of_a_motion_module_are_cut_out_and_put_back(toyworld):
    import torch

    motion = toyworld("motion")
    full = motion.untrained()
    live = motion.live_part(full)
    assert sum(value.numel() for value in live.values()) < 0.25 * sum(value.numel() for value in full.values())
    assert all(torch.equal(value, full[name]) for name, value in motion.full(live).items())
    alive = {**full, "mid_block.motion_modules.0.temporal_transformer.norm.bias": torch.ones(320)}
    with pytest.raises(ValueError, match="should be dead"):
        motion.live_part(alive)


def test_the_live_motion_model_is_the_full_one_without_its_dead_channels(toyworld, pack):
    """What the recipe is tried on computes what ComfyUI computes with the expanded weights, also with a MotionLoRA."""
    import torch

    live, motion, weights = toyworld("live"), toyworld("motion"), toyworld("weights")
    call = pack.submodule("motion_models.network.call")
    files = pack.submodule("motion_models.files.motion_model")
    spec, tensors = files.interpret("toyworld", motion.full(weights.load_live("motion")), {})
    full = pack.submodule("motion_models.network.temporal").MotionModel(spec, torch.float32)
    full.load_state_dict(tensors)
    cut = live.motion_patcher(pack).model
    generator = torch.Generator().manual_seed(0)
    pairs = {
        name: tuple(
            0.1 * torch.randn(shape, generator=generator) for shape in ((2, layer.in_features), (layer.out_features, 2))
        )
        for name, layer in cut.projections()
    }

    def added(model, pairs, x):
        low_rank = {name: (call.LowRank(*pair, 1.0),) for name, pair in pairs.items()}
        inputs = call.MotionInputs(call.ModuleInputs(), low_rank=low_rank)
        modules = [module for part in ("down", "mid", "up") for module in model.modules_of(part)]
        with torch.no_grad():
            return [module(x.clone(), 16, inputs)[:, :80] - x[:, :80] for module in modules]

    x = torch.zeros(16, 320, 4, 4)
    x[:, :80] = torch.randn(16, 80, 4, 4, generator=generator)
    for ours, expected in zip(added(cut, pairs, x[:, :80]), added(full, live.full_lora(pairs), x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_the_recipes_are_settings_of_the_node(toyworld, pack):
    from types import SimpleNamespace

    recipe = toyworld("recipe")
    for name, changes in recipe.VARIANTS.items():
        settings, rank, alpha = recipe.Bench.settings(SimpleNamespace(pack=pack), changes, 400, 0, name, 100)
        found = {"rank": rank, "alpha": alpha, "loss": settings.objective, **vars(settings.options), **vars(settings)}
        assert changes.items() <= found.items(), name
    settings, _, _ = recipe.Bench.settings(SimpleNamespace(pack=pack), {}, 400, 0, "defaults", 100)
    assert (settings.steps, settings.batch, settings.from_pure_noise) == (400, 4, True)
