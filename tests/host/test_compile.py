"""ComfyUI's TorchCompileModel on animated MODELs: compiled results equal eager ones, whatever was compiled before."""

from __future__ import annotations

import shutil

import pytest
import torch

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None and shutil.which("clang") is None,
    reason="torch.compile needs a C++ compiler, and there is none on the PATH",
)


@pytest.fixture
def compiled(host_path):
    """A MODEL as TorchCompileModel gives it; with a backend that runs what was traced, as the compiler itself takes minutes."""
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    torch._dynamo.reset()
    yield lambda model, backend="eager": TorchCompileModel.execute(model, backend).result[0]
    torch._dynamo.reset()


class Counted:
    """A backend that runs what was traced, and counts how often it is asked to compile."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs, **options):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def as_on_a_gpu(host_path):
    """Attention as the host computes it there: on a CPU it looks for free memory, which no compiler can follow."""
    from comfy.ldm.modules.attention import attention_pytorch

    def changed(model):
        model = model.clone()
        # of the run, not of the MODEL: it is read for each UNet call
        options = model.model_options["transformer_options"]
        options["optimized_attention_override"] = lambda function, *args, **kwargs: attention_pytorch(*args, **kwargs)
        return model

    return changed


@pytest.fixture
def variants(pack, layouts, new_model, new_motion, new_motion_file, animate):
    """MODELs of one checkpoint and their number of frames, by name."""
    layout = layouts["unusual"]
    model, motion = new_model(layout), new_motion(layout)
    files = pack.submodule("motion_models.files.motion_model")
    v1 = files.load_motion_model(new_motion_file(layout, name="v1", mid=False, frames=24, seed=2))
    assert v1.model.spec.joint_group_norm
    context = pack.submodule("sampling.windows.context").Context(
        pack.submodule("sampling.windows.schedules").WindowOptions("standard_static", 4, 2), "pyramid"
    )
    windowed = animate(model, motion).clone()
    applied = pack.submodule("sampling.animate").feature_of(windowed, pack.submodule("sampling.motion.feature").Motion)
    windowed = pack.submodule("sampling.evolved").animate(model, applied.motion_models, "autoselect", (context,))
    return {
        "whole range": (animate(model, motion), 4),
        "first half": (animate(model, motion, end_percent=0.5), 4),
        "half effect": (animate(model, motion, effect=0.5), 4),
        "mask": (animate(model, motion, scale=torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))), 4),
        "plain": (model, 4),
        "joint group norm": (animate(model, v1), 4),
        "another length": (animate(model, motion), 6),
        "joint group norm, another length": (animate(model, v1), 6),
        "windows": (windowed, 6),
        "two motion models": (animate(model, motion, v1), 4),
        "plain again": (model, 6),
    }


@pytest.mark.parametrize("order", [1, -1], ids=["forwards", "backwards"])
def test_settings_count_whatever_was_compiled_before(compiled, variants, sample, order):
    """The host drops all guards on transformer_options: what a compiled UNet reads there is frozen into it."""
    for name, (model, frames) in list(variants.items())[::order]:
        eager = sample(model, frames=frames, steps=2)
        torch.testing.assert_close(
            sample(compiled(model), frames=frames, steps=2), eager, rtol=1e-3, atol=1e-3, msg=name
        )


def test_windows_that_look_at_each_other(pack, compiled, layouts, new_model, new_motion, animate, sample):
    """ContextRef changes from window to window and from step to step what the UNet's layers are told."""
    names = (
        "windows.context",
        "windows.schedules",
        "context_extras.extras",
        "context_extras.context_ref",
        "context_extras.modes",
    )
    context, schedules, extras, reference, modes = (pack.submodule(f"sampling.{name}") for name in names)
    model = new_model(layouts["unusual"])
    motion = pack.submodule("sampling.motion.feature").Motion
    applied = pack.submodule("sampling.animate").feature_of(animate(model, new_motion(layouts["unusual"])), motion)
    windows = (context.Context(schedules.WindowOptions("batched", 2), "flat"),)

    def made(**asked):
        tied = context.with_extras(windows, extras.ContextExtras(context_ref=reference.ContextRef(**asked)))
        return pack.submodule("sampling.evolved").animate(model, applied.motion_models, "autoselect", tied)

    everything = reference.Tune(0.5, 1.0, 1.0, 0.5, 1.0, 1.0)
    for name, one in {
        "first half": made(end_percent=0.5),
        "none": made(end_percent=0.0),
        "statistics too": made(end_percent=1.0, tune=everything, mode=modes.Sliding(2), strength=0.5),
        "first half again": made(end_percent=0.5, strength=0.3),
    }.items():
        eager = sample(one, frames=6, steps=2)
        torch.testing.assert_close(sample(compiled(one), frames=6, steps=2), eager, rtol=1e-3, atol=1e-3, msg=name)


@pytest.fixture
def changing(pack, layouts, new_model, new_motion, animate):
    """A MODEL whose windows, percent range and keyframes make its UNet calls differ, and its plain checkpoint."""

    def made(layout):
        names = ("windows.context", "windows.schedules", "motion.applied", "motion.feature", "animate", "evolved")
        context, schedules, applied, feature, on_model, evolved = (pack.submodule(f"sampling.{name}") for name in names)
        mask = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
        keyframes = (applied.Keyframe(0.0, scale=mask, effect=0.8), applied.Keyframe(0.3, scale=1.2, effect=mask))
        model = new_model(layout)
        motion = on_model.feature_of(
            animate(model, new_motion(layout), end_percent=0.7, keyframes=keyframes), feature.Motion
        )
        windows = (context.Context(schedules.WindowOptions("standard_static", 4, 2), "pyramid"),)
        return evolved.animate(model, motion.motion_models, "autoselect", windows), model

    return made


def test_what_changes_in_a_run_breaks_no_graph_and_compiles_nothing_again(
    as_on_a_gpu, compiled, changing, layouts, sample
):
    """Windows, percent range and keyframes: as few graphs as the plain UNet has, and a second run compiles nothing."""
    from torch._dynamo.utils import counters

    animated, plain = map(as_on_a_gpu, changing(layouts["unusual"]))
    of_plain, of_animated = Counted(), Counted()
    sample(compiled(plain, of_plain), frames=4, steps=4)
    eager = sample(animated, frames=6, steps=4)
    counters.clear()
    for _ in range(2):
        torch.testing.assert_close(
            sample(compiled(animated, of_animated), frames=6, steps=4), eager, rtol=1e-3, atol=1e-3
        )
    assert not counters["graph_break"]
    assert of_animated.graphs == of_plain.graphs == 1


ONE_LEVEL = {
    "channel_mult": (1,),
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
}


@pytest.mark.timeout(1200)  # on a machine that has other work: the compiler alone takes half a minute
def test_the_compiler_makes_one_piece_of_code(as_on_a_gpu, compiled, changing, sample):
    animated, _ = changing(ONE_LEVEL)
    animated = as_on_a_gpu(animated)
    eager = sample(animated, frames=6, steps=4)
    torch.testing.assert_close(sample(compiled(animated, "inductor"), frames=6, steps=4), eager, rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_the_compiler_itself(compiled, variants, sample):
    for name in ("whole range", "first half", "plain"):
        model, frames = variants[name]
        eager = sample(model, frames=frames)
        torch.testing.assert_close(
            sample(compiled(model, "inductor"), frames=frames), eager, rtol=1e-3, atol=1e-3, msg=name
        )
