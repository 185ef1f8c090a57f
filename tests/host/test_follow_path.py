"""Follow Path on tiny UNets: attention against one computed here, windows, and what must not change."""

from __future__ import annotations

import pytest
import torch

FRAMES, TOKENS = 4, 7


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its first output."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result[0]


@pytest.fixture
def path(nodes):
    """`path(text, side of the boxes)`: a MOTION_PATH."""

    def make(places="0: 0.25,0.5  3: 0.75,0.5", side=0.5, **more):
        inputs = {"box_width": side, "box_height": side, "ease": "linear", **more}
        return nodes("AnimateDiffMotionPath", places=places, **inputs)

    return make


class Clip:
    """Reads as the host's CLIP does, for the conditionings of the tiny UNets: 7 tokens, the second to fourth of which are words."""

    def tokenize(self, text):
        ids = [1, *(10 + sum(map(ord, word)) for word in text.split()), 2]
        return {"l": [[(token, 1.0) for token in [*ids, *[2] * (TOKENS - len(ids))]]]}

    def encode_from_tokens(self, tokens):
        raise AssertionError


@pytest.fixture
def follow(nodes, path):
    """`follow(MODEL, settings)`: the MODEL with the node, whose path is that of the word "cat" in "a red cat"."""

    def put_on(model, moves=None, noise=0.0, attention=2.0, end_percent=1.0):
        moves = moves or path(word="cat")
        inputs = {"noise": noise, "attention": attention, "end_percent": end_percent}
        return nodes("AnimateDiffFollowPath", model=model, path=moves, clip=Clip(), prompt="a red cat", **inputs)

    return put_on


@pytest.fixture
def small(layouts, new_model, new_motion, animate):
    """An animated MODEL with the smallest of the UNets."""
    return animate(new_model(layouts["unusual"]), new_motion(layouts["unusual"]))


def watched(model, names: tuple[str, ...], run) -> dict[str, tuple]:
    """Of layers of the UNet by their names: their inputs (a tuple) and output in the first call that ``run`` makes."""
    seen: dict[str, tuple] = {}
    modules = dict(model.model.diffusion_model.named_modules())

    def keep(name):
        def hook(_module, given, named, out):  # what it returns would take the place of the output
            seen.setdefault(name, ([*given, *named.values()], out.clone()))

        return hook

    handles = [modules[name].register_forward_hook(keep(name), with_kwargs=True) for name in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def attention(layer, x, context, added) -> torch.Tensor:
    """Multi-head attention in float64, with ``added (rows, 1, queries, keys)`` to its logits."""

    def heads(linear, x):
        return (x.double() @ linear.weight.double().T).unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    q, k, v = heads(layer.to_q, x), heads(layer.to_k, context), heads(layer.to_v, context)
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + added
    out = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    linear = layer.to_out[0]
    return out @ linear.weight.double().T + linear.bias.double()


def in_and_out(size: int, middles) -> torch.Tensor:
    """1 in and -1 out of boxes of half the picture around ``middles, 0.5``: ``(frames, size * size)``, by edges computed here."""
    lines = []
    for x in middles:
        edges = torch.arange(size + 1, dtype=torch.float64) / size
        covered = [
            ((torch.minimum(edges[1:], c + 0.25) - torch.maximum(edges[:-1], c - 0.25)) * size).clamp(0, 1)
            for c in (torch.tensor(float(x), dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
        ]
        lines.append((covered[1][:, None] * covered[0]).flatten())
    return 2 * torch.stack(lines) - 1


MIDDLES = torch.linspace(0.25, 0.75, FRAMES, dtype=torch.float64)
BLOCK = "input_blocks.1.1.transformer_blocks.0"


@pytest.mark.parametrize("chunk", [False, True], ids=["all frames at once", "frames in chunks"])
def test_spatial_attention_keeps_to_the_box(pack, small, sample, follow, new_motion, layouts, new_model, chunk):
    """Places attend to their own side of the box, and those inside to the word of the positive prompt."""
    model = small
    if chunk:
        windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
        motion, evolved = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved")
        views = context.ViewOptions(windows.WindowOptions("standard_static", 4, 0), "flat", shared=True)
        whole = windows.WindowOptions("view_as_context", FRAMES)
        contexts = (context.Context(whole, "flat", views=views, chunk=2),)
        applied = motion.apply(new_motion(layouts["unusual"]), motion.MotionSettings())
        model = evolved.animate(new_model(layouts["unusual"]), applied, "autoselect", contexts)
    model = follow(model)
    frames = [0, 1] if chunk else list(range(FRAMES))
    names = (f"{BLOCK}.attn1", f"{BLOCK}.attn2")
    seen = watched(model, names, lambda: sample(model, frames=FRAMES, steps=1))
    modules = dict(model.model.diffusion_model.named_modules())
    side = in_and_out(8, MIDDLES)[frames]
    (given, own), (to_text, found) = (seen[name] for name in names)
    x = given[0]
    clips = len(x) // len(frames)
    both = side.repeat(clips, 1)
    added = 2.0 * both[:, None, :, None] * both[:, None, None, :]
    expected = attention(modules[names[0]], x, x, added)
    torch.testing.assert_close(own.double(), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(own.double(), attention(modules[names[0]], x, x, 0 * added), atol=1e-2)

    x, context = to_text[:2]
    word = torch.zeros(TOKENS, dtype=torch.float64)
    word[3] = 1
    expected = attention(modules[names[1]], x, context, 2.0 * both[:, None, :, None] * word)
    plain = attention(modules[names[1]], x, context, torch.zeros(1, dtype=torch.float64))
    negatives = [
        (found[rows].double() - plain[rows]).abs().max() < 1e-4 for rows in torch.arange(len(x)).split(len(frames))
    ]
    assert clips == (1 if chunk else 2)
    if not chunk:
        assert sorted(map(bool, negatives)) == [False, True]
    edited = torch.cat(
        [
            expected[r] if not n else plain[r]
            for r, n in zip(torch.arange(len(x)).split(len(frames)), negatives, strict=True)
        ]
    )
    torch.testing.assert_close(found.double(), edited, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("views", [None, "apart", "shared"])
def test_temporal_attention_keeps_frames_in_the_box_together(pack, new_motion, views):
    """A tie of many logits between the first two frames, and between the others: they no longer know each other."""
    network = new_motion().model
    call, feature = pack.submodule("motion_models.network.call"), pack.submodule("motion_models.network.features")
    view = pack.submodule("motion_models.network.views")
    divided = None
    if views:
        each = tuple(view.View(list(frames), torch.ones(len(frames))) for frames in (range(4), range(2, 6)))
        divided = view.Views(each, shared=views == "shared")
    sides = torch.tensor([1.0, 1, -1, -1, -1, -1])[:, None, None, None].expand(6, 1, 4, 4)
    module = network.down_blocks[0].motion_modules[0]
    x = torch.randn(
        12, module.temporal_transformer.proj_in.in_features, 4, 4, generator=torch.Generator().manual_seed(1)
    )

    def run(x, strength):
        ties = None if strength is None else feature.FrameFeatures(strength**0.5 * sides)
        with torch.no_grad():
            return module(x, 6, call.MotionInputs(views=divided, ties=ties)) - x

    changed = x.clone().unflatten(0, (2, 6))
    changed[:, :2] = changed[:, :2].flip(-1)
    torch.testing.assert_close(run(x, 0.0), run(x, None), rtol=1e-4, atol=1e-5)
    for strength, alike in ((0.0, False), (200.0, True)):
        one, other = (run(y, strength).unflatten(0, (2, 6))[:, 2:] for y in (x, changed.flatten(0, 1)))
        assert torch.allclose(one, other, atol=1e-4) == alike


@pytest.mark.parametrize("settings", [{"attention": 0.0}, {"end_percent": 0.0}], ids=["0", "earlier"])
def test_without_effect_clips_are_as_without_the_node(small, sample, follow, settings):
    assert torch.equal(sample(follow(small, **settings), denoise=0.9), sample(small, denoise=0.9))


@pytest.mark.parametrize(
    "settings", [{}, {"noise": 1.0}, {"noise": 1.0, "attention": 0.0}], ids=["attention", "both", "noise"]
)
def test_runs_one_after_another_do_not_see_each_other(small, sample, follow, settings):
    model = follow(small, **settings)
    plain, first = sample(small), sample(model)
    assert torch.equal(sample(small), plain)
    assert torch.equal(sample(model), first)
    assert not torch.allclose(first, plain, atol=1e-2)


def test_attention_is_changed_in_the_first_part_of_the_schedule(small, sample, follow):
    """Up to half: the first step is as with it all the way, the last is not."""
    clips = {}
    for name, end in {"half": 0.5, "all": 1.0}.items():
        model = follow(small, end_percent=end)
        clips[name] = [sample(model, steps=4, last_step=last, force_full_denoise=False) for last in (1, 4)]
    assert torch.equal(clips["half"][0], clips["all"][0])
    assert not torch.equal(clips["half"][1], clips["all"][1])


def test_one_call_or_two_for_positive_and_negative(small, sample, follow, monkeypatch):
    model = follow(small, noise=1.0)
    together = sample(model, steps=1)
    monkeypatch.setattr(model.model, "memory_required", lambda *_args, **_kwargs: 1e30)
    torch.testing.assert_close(sample(model, steps=1), together, rtol=1e-3, atol=1e-3)


def test_windows_get_the_part_of_the_path_that_is_theirs(pack, layouts, new_model, new_motion, sample, follow, path):
    """A window is a clip that follows its own part of the path, under Context Options and the host's Context Windows alike."""
    motion, evolved = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved")
    windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    layout = layouts["unusual"]
    applied = motion.apply(new_motion(layout), motion.MotionSettings())

    def animated(*contexts):
        return evolved.animate(new_model(layout), applied, "autoselect", contexts)

    noise = torch.randn((6, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    way = "0: 0.2,0.3  5: 0.7,0.8"
    static = context.Context(windows.WindowOptions("standard_static", 3, 0), "flat")
    whole = sample(follow(animated(static), path(way)), noise=noise, frames=6)
    second = "0: 0.5,0.6  2: 0.7,0.8"
    alone = sample(follow(animated(), path(second)), noise=noise[3:], frames=3)
    torch.testing.assert_close(whole[3:], alone, rtol=1e-3, atol=1e-3)

    from comfy import context_windows

    host = animated()
    host.model_options["context_handler"] = handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("flat"),
        context_length=3,
        context_overlap=0,
    )
    handler.causal_window_fix = False
    # as many steps as frames, less one: the oldest host's node fails with others
    of_host = sample(follow(host, path(way)), noise=noise, frames=6, steps=5)
    ours = sample(follow(animated(static), path(way)), noise=noise, frames=6, steps=5)
    torch.testing.assert_close(of_host, ours, rtol=1e-3, atol=1e-3)


def test_windows_in_one_batch_are_as_windows_one_by_one(pack, small, sample, follow, path, alike_in_one_batch):
    evolved, applied = pack.submodule("sampling.animate"), pack.submodule("sampling.windows.in_run")
    windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")

    def model_of(contexts):
        features = tuple(
            applied.Windows(contexts) if isinstance(one, applied.Windows) else one
            for one in small.get_attachment("AnimateDiff")
        )
        return follow(evolved.with_features(small, features), path("0: 0.2,0.3  7: 0.7,0.8"))

    contexts = (context.Context(windows.WindowOptions("standard_static", 4, 2), "flat"),)
    alike_in_one_batch(model_of, lambda model: sample(model, frames=8, steps=2), contexts)


def test_attention_functions_and_patches_of_other_nodes_still_work(small, sample, follow):
    """One that takes the place of the attention function gets what the path adds, as further channels."""
    widths, own = [], []

    def override(function, q, k, v, heads, *args, **kwargs):
        widths.append(q.shape[-1] // heads)
        return function(q, k, v, heads, *args, **kwargs)

    model = small.clone()
    model.model_options["transformer_options"] = {
        **model.model_options["transformer_options"],
        "optimized_attention_override": override,
    }
    model.set_model_attn1_patch(lambda n, context, value, options: own.append(n.shape) or (n, context, value))
    sample(model, steps=1)
    plain, calls = set(widths), len(own)
    widths.clear()
    sample(follow(model), steps=1)
    assert set(widths) == {width + 8 for width in plain}
    assert len(own) == 2 * calls


def test_a_model_that_is_not_animated_is_told(layouts, new_model, sample, follow):
    with pytest.raises(ValueError, match="Connect it behind Use Evolved Sampling"):
        sample(follow(new_model(layouts["unusual"])))


def test_compiled_models_follow_by_noise_alone(small, sample, follow):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model = TorchCompileModel.execute(follow(small), "eager").result[0]
    with pytest.raises(ValueError, match="set attention to 0: the path then acts by noise alone"):
        sample(model)


def test_the_host_draws_tracks_that_become_a_path(nodes):
    tracks = pytest.importorskip("comfy_extras.nodes_wanmove", reason="a host without TRACKS")
    if not hasattr(tracks, "GenerateTracks"):
        pytest.skip("a host without Generate Video Tracks")
    ends = {"start_x": 0.2, "start_y": 0.3, "end_x": 0.8, "end_y": 0.7, "mid_x": 0.5, "mid_y": 0.5}
    made = tracks.GenerateTracks.execute(
        width=256, height=128, num_frames=81, num_tracks=3, track_spread=0.01, **ends
    ).result[0]
    sizes = {"box_width": 0.3, "box_height": 0.3}
    path = nodes("AnimateDiffMotionPathFromTracks", tracks=made, width=256, height=128, frames=16, **sizes)
    boxes = path.at(16)[0]
    torch.testing.assert_close(boxes[[0, -1], :2], torch.tensor([[0.2, 0.3], [0.8, 0.7]]), rtol=0, atol=1e-4)


def test_paths_are_drawn(nodes, path):
    moves = path("0: 0.25,0.5  15: 0.75,0.5", word="cat")
    inputs = {"path": moves, "frames": 16, "width": 512, "height": 256}
    picture = nodes("AnimateDiffDrawMotionPath", **inputs)
    assert picture.shape == (1, 360, 600, 3)
    grey = torch.full((16, 64, 64, 3), 0.2)
    over = nodes("AnimateDiffDrawMotionPath", **inputs, images=grey)
    coloured = (over - grey).abs().sum(-1) > 0.05
    assert coloured.flatten(1).any(1).all()
    middles = [torch.nonzero(frame)[:, 1].float().mean() for frame in coloured[[0, 15]]]
    assert middles[0] < 24 < 40 < middles[1] + 12  # the way so far is drawn too
    assert torch.equal(over[0, :, 48:], grey[0, :, 48:])


@pytest.fixture
def camera(nodes):
    """`camera(text)`: a MOTION_PATH of a camera."""
    inputs = {"ease": "linear", "noise": 1.0}
    return lambda moves="0: 0,0  3: 0.4,0", **more: nodes("AnimateDiffCameraPath", moves=moves, **{**inputs, **more})


def test_a_camera_moves_the_noise_of_the_whole_picture(pack, small, sample, follow, camera, monkeypatch):
    """By its own strength, from the sampler's seed; attention is left alone, with compiled models, too."""
    feature = pack.submodule("sampling.paths.follow")
    seen, drawn = [], feature.noise_along
    monkeypatch.setattr(feature, "noise_along", lambda *given: seen.append((given, drawn(*given))) or seen[-1][1])
    model = follow(small, camera())
    names = (f"{BLOCK}.attn1",)
    plain = watched(small, names, lambda: sample(small, frames=FRAMES, steps=1))
    moved = watched(model, names, lambda: sample(model, frames=FRAMES, steps=1))
    [(given, noise)] = seen
    assert given[1].camera is not None and given[3] == 0.0
    assert not torch.allclose(noise, given[0], atol=0.1)
    layer = dict(model.model.diffusion_model.named_modules())[names[0]]
    for found in (plain, moved):
        (x, *_), out = found[names[0]]
        torch.testing.assert_close(
            out.double(), attention(layer, x, x, torch.zeros(1, dtype=torch.float64)), rtol=1e-3, atol=1e-4
        )
    assert not torch.allclose(plain[names[0]][1], moved[names[0]][1], atol=1e-3)


def test_clips_before_and_behind_a_camera_are_the_same(small, sample, follow, camera):
    model = follow(small, camera())
    before, first = sample(small), sample(model)
    assert torch.equal(sample(small), before)
    assert torch.equal(sample(model), first)
    assert not torch.allclose(first, before, atol=1e-2)
    assert torch.equal(sample(follow(small, camera(noise=0.0)), denoise=0.9), sample(small, denoise=0.9))


def test_a_thing_and_a_camera_move_together(small, sample, follow, camera, path):
    both = camera(prev_path=path(word="cat"))
    assert len(both.objects) == 1 and both.camera is not None
    made = [sample(follow(small, one, noise=1.0)) for one in (both, path(word="cat"), camera())]
    assert not any(torch.allclose(made[0], other, atol=1e-2) for other in made[1:])


def test_poses_of_camera_ctrl_become_a_camera_path(nodes):
    made = nodes("ADE_CameraPoseBasic", motion_type="Pan Right", speed=1.0, frame_length=4)
    inputs = {"poses": made, "depth": 6.0, "width": 512, "height": 512, "noise": 1.0}
    x = nodes("AnimateDiffCameraPathFromPoses", **inputs).camera.at(4)[:, 0]
    assert (x.diff() > 0.01).all()


def test_cameras_are_drawn(nodes, camera):
    moves = camera("0: 0,0  15: 0.5,0,2,30")
    inputs = {"path": moves, "frames": 16, "width": 512, "height": 256}
    # room for where the camera goes beyond the first picture
    assert nodes("AnimateDiffDrawMotionPath", **inputs).shape[2] == 600
    grey = torch.full((16, 64, 64, 3), 0.2)
    over = nodes("AnimateDiffDrawMotionPath", **inputs, images=grey)
    marked = ((over - grey).abs().sum(-1) > 0.05).nonzero()
    middles = [marked[marked[:, 0] == frame][:, 2].float().mean() for frame in (0, 4)]
    assert middles[1] < middles[0] - 4  # the picture goes to the left
