"""A step of ours against one in plain PyTorch (dev/plain_training.py): loss, gradients, weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from animatediff_dev_plain_training import loss as plain_loss
from animatediff_dev_plain_training import merged, signal_levels, with_motion

# float32 has seven digits; what is compared is the length of a difference, as a share of the length of what is expected
CLOSE = 1e-6
RANK, ALPHA = 4, 6.0
SETTINGS = {
    "steps": 1,
    "batch": 2,
    "caption_dropout": 0.0,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "clip_norm": 0.01,
    # the prediction is read off the denoised picture, in float32: at low noise that leaves it fewer than seven digits
    "end_percent": 0.5,
}


@pytest.fixture
def in_double(pack, monkeypatch):
    """The frozen network computes in float64, so that differences are not those of its rounding."""
    monkeypatch.setattr(pack.submodule("host.training"), "compute_dtype", lambda *_: torch.float64)


@pytest.fixture
def watched(training, monkeypatch):
    """What goes into a step (latents, noise, sigma, conditionings), and the gradients that the optimiser is given."""
    seen: dict[str, list] = {"batch": [], "gradients": []}
    unet = training("unet").TrainingUNet
    prediction = unet.prediction

    def watch(self, latents, noise, sigma, conditionings, *rest):
        seen["batch"].append((latents.double(), noise.double(), sigma.double(), conditionings))
        return prediction(self, latents, noise, sigma, conditionings, *rest)

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            seen["gradients"].append([p.grad.double().clone() for group in self.param_groups for p in group["params"]])
            return super().step(closure)

    optimizers = training("optimizers")
    kind = optimizers.OPTIMIZERS["AdamW"]
    monkeypatch.setattr(unet, "prediction", watch)
    monkeypatch.setitem(optimizers.OPTIMIZERS, "AdamW", replace(kind, make=optimizers.of_torch(Watched)))
    return seen


@pytest.fixture
def new_unet_of():
    """A copy of a MODEL's UNet in float64."""

    def new(model):
        unet = copy.deepcopy(model.model.diffusion_model).double()
        unet.dtype = torch.float64
        return unet

    return new


@pytest.fixture
def captions(new_cond):
    return [new_cond(11), new_cond(12), new_cond(13)]


def assert_close(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Each tensor by itself; those that are next to nothing (what a group norm takes out again has no gradient) beside the others."""
    assert found.keys() == expected.keys()
    least = 1e-3 * torch.stack([value.norm() for value in expected.values()]).norm()
    for name, value in expected.items():
        off = (found[name].double() - value).norm() / max(value.norm(), least)
        assert off < CLOSE, f"{name} is off by {off:.1e}"


def timesteps_of(sigma: torch.Tensor) -> torch.Tensor:
    """Those of our own schedule; fails if ``sigma`` is none of its noise levels."""
    signal = signal_levels()
    levels = ((1 - signal) / signal).sqrt()
    off, timesteps = ((sigma[:, None] - levels).abs() / levels).min(dim=1)
    assert off.max() < CLOSE
    return timesteps


def plain_step(unet, tensors, parameters, linear, batch, captions) -> tuple[float, dict]:
    """Loss and clipped gradients of ``parameters``, which are then stepped: the mean over clips that go through it one by one."""
    latents, noise, sigma, conditionings = batch
    total = 0.0
    with with_motion(unet, tensors, linear, latents.shape[1]):
        for clip, timestep in enumerate(timesteps_of(sigma).split(1)):
            context = captions[conditionings[clip]][0][0].double()
            one = plain_loss(unet, latents[clip : clip + 1], noise[clip : clip + 1], timestep, context) / len(latents)
            one.backward()
            total += one.item()
    length = torch.stack([parameter.grad.square().sum() for parameter in parameters.values()]).sum().sqrt()
    assert length > SETTINGS["clip_norm"]  # else this would not see whether gradients are clipped
    gradients = {name: p.grad * (SETTINGS["clip_norm"] / (length + 1e-6)) for name, p in parameters.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    torch.optim.AdamW(parameters.values(), lr=SETTINGS["learning_rate"], weight_decay=SETTINGS["weight_decay"]).step()
    return total, gradients


def parameters_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().double().clone().requires_grad_() for name, value in tensors.items()}


def halves(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], scale: float) -> dict[str, torch.Tensor]:
    """By their names in training, where ``up`` is without the scale."""
    named = {f"{name}.down": down for name, (down, _) in pairs.items()}
    return named | {f"{name}.up": up / scale for name, (_, up) in pairs.items()}


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_a_motion_lora(
    pack, train_lora, animated, new_unet_of, watched, captions, new_latents, checkpointing
):
    model, scale = animated(), ALPHA / RANK
    (patcher,) = model.get_additional_models_with_key("AnimateDiff")
    chance = torch.Generator().manual_seed(4)
    pairs = {
        name: tuple(torch.randn(*shape, generator=chance) * 0.1 for shape in ((RANK, width), (out, RANK)))
        for name, (out, width) in ((name, layer.weight.shape) for name, layer in patcher.model.projections())
    }
    start = pack.submodule("lora.motion_lora").MotionLora("start", pairs)
    given = {"model": model, "latents": new_latents(3), "conditionings": captions, "resume": start, "alpha": ALPHA}
    trained, record = train_lora(**given, checkpointing=checkpointing, **SETTINGS)

    tensors = {name: value.double() for name, value in patcher.model.state_dict().items()}
    parameters = parameters_of(halves(pairs, scale))
    linear = merged(tensors, {name: (parameters[f"{name}.down"], parameters[f"{name}.up"]) for name in pairs}, scale)
    loss, gradients = plain_step(new_unet_of(model), tensors, parameters, linear, watched["batch"][0], captions)

    assert record.losses == [pytest.approx(loss, rel=CLOSE)]
    names = [f"{name}.{half}" for name in pairs for half in ("down", "up")]
    assert_close(dict(zip(names, watched["gradients"][0], strict=True)), gradients)
    assert_close(halves(trained.pairs, scale), {name: value.detach() for name, value in parameters.items()})


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_a_motion_module(
    train_module, new_model, new_motion, new_unet_of, watched, captions, new_latents, checkpointing
):
    model, start = new_model(), new_motion()
    trained, record = train_module(
        model=model,
        start=start,
        latents=new_latents(3),
        conditionings=captions,
        checkpointing=checkpointing,
        **SETTINGS,
    )
    tensors = {name: value.double() for name, value in start.model.state_dict().items()}
    parameters = parameters_of({name: tensors[name] for name, _ in start.model.named_parameters()})
    both = {**tensors, **parameters}
    loss, gradients = plain_step(
        new_unet_of(model), both, parameters, merged(both, {}, 1.0), watched["batch"][0], captions
    )

    assert record.losses == [pytest.approx(loss, rel=CLOSE)]
    assert_close(dict(zip(parameters, watched["gradients"][0], strict=True)), gradients)
    after = trained.model.state_dict()
    assert_close(
        {name: after[name] for name in parameters}, {name: value.detach() for name, value in parameters.items()}
    )
