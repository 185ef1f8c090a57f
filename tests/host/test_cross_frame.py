"""UniCtrl and Text2Video-Zero with samplers and guiders of every kind."""

from __future__ import annotations

import pytest
import torch

NODES = {
    "AnimateDiffUniCtrl": {"strength": 1.0, "motion_end_percent": 1.0, "start_percent": 0.0, "end_percent": 1.0},
    "AnimateDiffText2VideoZero": {"motion_x": 12.0, "motion_y": -8.0, "delta_t": 0.06, "attention": 1.0},
}
SAMPLERS = [  # one evaluation a step, two, several steps at once, fresh noise in each, CFG taken apart, steps of its own
    "euler",
    "heun",
    "dpmpp_2m",
    "dpmpp_sde",
    "lcm",
    "euler_cfg_pp",
    "uni_pc",
    "dpm_fast",
]
FRAMES = 4


@pytest.fixture
def with_node(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}
    return lambda name, model: nodes[name].execute(model=model, **NODES[name]).result[0]


@pytest.fixture
def animated(layouts, new_model, new_motion, animate):
    return animate(new_model(layouts["unusual"]), new_motion(layouts["unusual"]))


def assert_acts(clip: torch.Tensor, plain: torch.Tensor) -> None:
    assert clip.isfinite().all()
    assert (clip - plain).norm() > 0.01 * plain.norm()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", NODES)
def test_samplers(animated, with_node, sample, name, sampler):
    options = {"sampler": sampler, "frames": FRAMES}
    plain = sample(animated, **options)
    assert_acts(sample(with_node(name, animated), **options), plain)
    assert torch.equal(sample(animated, **options), plain)


@pytest.mark.parametrize("guider", ["BasicGuider", "CFGGuider", "DualCFGGuider"])
@pytest.mark.parametrize("name", NODES)
def test_guiders(animated, with_node, positive, negative, new_cond, name, guider):
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler

    conds = {
        "BasicGuider": (positive,),
        "CFGGuider": (positive, negative, 7.5),
        "DualCFGGuider": (positive, new_cond(5), negative, 7.5, 2.0, "regular"),
    }

    def run(model) -> torch.Tensor:
        node = getattr(nodes_custom_sampler, guider)
        if hasattr(node, "execute"):
            chosen = node.execute(model, *conds[guider]).result[0]
        else:
            chosen = node().get_guider(model, *conds[guider])[0]
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
        noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            euler = comfy.samplers.sampler_object("euler")
            return chosen.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=3)

    assert_acts(run(with_node(name, animated)), run(animated))
