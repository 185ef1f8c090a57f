"""Pictures of context windows, against what a run with the same options asks the UNet for."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def visualize(pack):
    """`visualize("ADE_VisualizeContextOptionsK", model=..., ...)`: what the node gives."""
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.sampling.visualize").NODES}
    return lambda node_id, **inputs: nodes[node_id].execute(**inputs).result[0]


@pytest.fixture
def context(pack):
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")

    def make(schedule="standard_static", length=4, overlap=2, fuse="pyramid", views=None, **changes):
        if views is not None:
            views = options.ViewOptions(windows.WindowOptions("standard_static", *views), "flat")
        return options.Context(windows.WindowOptions(schedule, length, overlap), fuse, views=views, **changes)

    return make


@pytest.fixture
def animated(pack, new_model):
    animate = pack.submodule("sampling.evolved").animate
    return lambda *contexts: animate(new_model(), (), "use existing", contexts)


@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_the_plan_is_what_a_run_does(pack, animated, context, sample, denoise):
    plan = pack.submodule("sampling.windows.plan")
    # two at 0.0: the first counts in no step, whatever it guarantees
    contexts = (
        context("batched", 3, 0, guarantee_steps=2),
        context("looped_uniform", 4, 2),
        context("standard_uniform", 5, 2, start_percent=0.5),
    )
    model = animated(*contexts)
    seen = []

    def watch(apply_model, arguments):
        seen.append(arguments["c"]["transformer_options"]["ad_params"]["sub_idxs"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(watch)
    sample(model, frames=12, steps=5, denoise=denoise)
    sigmas = plan.ksampler_sigmas(model, "euler", "normal", 5, denoise)
    steps = plan.plan(contexts, 12, model.get_model_object("model_sampling"), sigmas)
    assert [window.frames for step in steps for window in step.windows] == seen
    assert {step.context_index for step in steps} >= {1, 2}
    assert 0 not in {step.context_index for step in steps}


def test_one_picture_for_each_window_and_view_in_0_to_1(visualize, animated, context, new_model):
    model = new_model()
    before = dict(model.model_options["transformer_options"]), dict(model.attachments)
    inputs = {"model": model, "sampler_name": "euler", "scheduler": "normal", "steps": 3, "latents_length": 8}
    images = visualize("ADE_VisualizeContextOptionsK", context_opts=(context(),), visual_width=720, **inputs)
    assert images.shape[0] == 3 * 3
    assert images.shape[2:] == (720, 3)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() == 1
    assert (model.model_options["transformer_options"], model.attachments) == before
    with_views = visualize("ADE_VisualizeContextOptionsK", context_opts=(context(length=6, views=(4, 2)),), **inputs)
    assert with_views.shape[0] == 3 * 2 * 2
    assert with_views.shape[2] == 1440
    # without input: the MODEL's own contexts
    own = visualize("ADE_VisualizeContextOptionsK", **{**inputs, "model": animated(context())}, visual_width=720)
    assert torch.equal(own, images)


def columns(picture: torch.Tensor, colours: list[str]) -> list[int]:
    """The columns of a picture in which one of the colours is found."""
    found = torch.zeros(picture.shape[1], dtype=torch.bool)
    for colour in colours:
        rgb = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        found |= ((picture - rgb).abs() < 1e-3).all(-1).sum(0) >= 8  # not thin letters
    return found.nonzero().flatten().tolist()


def test_the_dark_boxes_are_the_frames_of_the_window(pack, visualize, context, new_model):
    drawing = pack.submodule("sampling.windows.pictures")
    sigmas = torch.tensor([14.0, 3.0, 0.0])
    images = visualize(
        "ADE_VisualizeContextOptionsSCustom",
        model=new_model(),
        sigmas=sigmas,
        context_opts=(context("looped_uniform"),),
        latents_length=8,
        visual_width=800,
    )
    sheet = drawing.Sheet(800, 8)
    windows = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [4, 5, 6, 7], [6, 7, 0, 1], [0, 1, 2, 3]]
    assert len(images) == len(windows)
    for image, window in zip(images, windows, strict=True):
        dark = columns(image, [drawing.CURRENT, drawing.CURRENT_ENDS])
        assert {int((x - sheet.left) / sheet.column) for x in dark if x >= sheet.left} == set(window)


def test_later_stages_of_the_advanced_sampler(visualize, context, new_model):
    inputs = {"model": new_model(), "sampler_name": "euler", "scheduler": "normal", "context_opts": (context(),)}
    inputs |= {"latents_length": 8, "visual_width": 400, "steps": 10}
    assert len(visualize("ADE_VisualizeContextOptionsKAdv", start_step=4, end_step=6, **inputs)) == 2 * 3
    assert len(visualize("ADE_VisualizeContextOptionsKAdv", **inputs)) == 10 * 3
    with pytest.raises(ValueError, match="start_step is 6, but sampling ends after step 6"):
        visualize("ADE_VisualizeContextOptionsKAdv", start_step=6, end_step=6, **inputs)


def test_clips_that_are_not_cut_give_a_picture_that_says_so(visualize, context, new_model):
    inputs = {"model": new_model(), "sampler_name": "euler", "scheduler": "normal", "latents_length": 4}
    for contexts in (None, (context(),)):
        assert visualize("ADE_VisualizeContextOptionsK", context_opts=contexts, **inputs).shape[0] == 1
        assert visualize("AnimateDiffVisualizeFuseWeights", context_opts=contexts, **inputs).shape[0] == 1


@pytest.mark.parametrize(("width", "frames"), [(32, 8), (32, 300), (1440, 1), (333, 64), (2000, 1000)])
def test_any_size_can_be_drawn(visualize, context, new_model, width, frames):
    inputs = {
        "model": new_model(),
        "sampler_name": "dpm_2",
        "scheduler": "karras",
        "steps": 1,
        "latents_length": frames,
    }
    contexts = (context(length=16, overlap=4, views=(8, 4), use_on_equal_length=True),)
    images = visualize("ADE_VisualizeContextOptionsK", context_opts=contexts, visual_width=width, **inputs)
    assert images.shape[2] == width
    coverage = visualize("AnimateDiffVisualizeFuseWeights", context_opts=contexts, visual_width=width, **inputs)
    assert coverage.shape[0] == 1
    assert coverage.shape[2] == width


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"steps": 0}, "set steps to 1 or more"),
        ({"denoise": 0.0}, "set steps to 1 or more and denoise above 0"),
        ({"latents_length": 10**9}, "Lower it"),
        ({"steps": 1000, "latents_length": 1000}, "Lower visual_width, steps or latents_length"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(visualize, context, new_model, inputs, message):
    inputs = {"model": new_model(), "sampler_name": "euler", "scheduler": "normal", **inputs}
    with pytest.raises(ValueError, match=message):
        visualize("ADE_VisualizeContextOptionsK", context_opts=(context(),), **inputs)


def test_coverage_is_the_sum_of_the_weights(pack, context, new_model):
    plan = pack.submodule("sampling.windows.plan")
    sampling = new_model().get_model_object("model_sampling")
    steps = plan.plan((context("looped_uniform"),), 8, sampling, torch.tensor([14.0, 3.0, 0.0]))
    expected = torch.tensor([[1.0, 2, 3, 3, 3, 3, 2, 1], [3.0, 3, 2, 1, 1, 2, 3, 3]])
    assert torch.equal(plan.coverage(steps, 8), expected)


def test_descriptions_of_windows(pack):
    described = pack.submodule("sampling.windows.pictures").described
    assert described(list(range(12, 28))) == "12-27"
    assert described([28, 29, 30, 31, 0, 1]) == "28-31, 0-1"
    assert described([1, 3, 5, 7]) == "1, 3, 5, 7"
    assert described(list(range(1, 40, 2))).startswith("1, 3, 5, 7, 9, 11, ..., 39")
