"""ComfyUI's TorchCompileModel on animated MODELs: compiled results equal eager ones, whatever was compiled before."""

from __future__ import annotations

import shutil
from functools import partial

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
    animated = partial(pack.submodule("sampling.evolved").animate, model, applied.motion_models, "autoselect")
    windowed, with_extras = animated((context,)), pack.submodule("sampling.windows.context").with_extras
    extras = pack.submodule("sampling.context_extras.extras").ContextExtras
    reference, modes = (pack.submodule(f"sampling.context_extras.{name}") for name in ("context_ref", "modes"))

    def referring(**asked):
        return animated(with_extras((context,), extras(context_ref=reference.ContextRef(**asked))))

    everything = reference.Tune(0.5, 1.0, 1.0, 0.5, 1.0, 1.0)
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
        "windows that look at the first": (referring(end_percent=1.0), 8),
        "in the first half": (referring(end_percent=0.5), 8),
        "statistics too, at their neighbours": (
            referring(end_percent=1.0, tune=everything, mode=modes.Sliding(2), strength=0.5),
            8,
        ),
        "windows again": (windowed, 8),
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


@pytest.mark.long
def test_the_compiler_itself(compiled, variants, sample):
    for name in ("whole range", "first half", "plain"):
        model, frames = variants[name]
        eager = sample(model, frames=frames)
        torch.testing.assert_close(
            sample(compiled(model, "inductor"), frames=frames), eager, rtol=1e-3, atol=1e-3, msg=name
        )
