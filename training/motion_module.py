"""Training motion modules, from scratch or from one that exists (AnimateDiff, arXiv 2307.04725, section 4.2)."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..host import training as host
from ..host.patcher import make_patcher, weight_dtype
from ..motion_models.call import MotionInputs
from ..motion_models.files import PUBLISHED_HEADS
from ..motion_models.injection import check_fit, find_sites
from ..motion_models.spec import MotionModelSpec
from ..motion_models.temporal import MotionModel, TemporalTransformer
from .clips import Clips
from .trainer import TrainingFailed, TrainingSettings, train
from .unet import TrainingUNet


@dataclass(frozen=True)
class Layout:
    """What sets the published AnimateDiff versions apart."""

    mid: bool
    max_frames: int


LAYOUTS = {
    "v1": Layout(mid=False, max_frames=24),
    "v2": Layout(mid=True, max_frames=32),
    "v3": Layout(mid=False, max_frames=32),
}
ATTENTION_BLOCKS = 2


def new_spec(name: str, version: str, unet: nn.Module) -> MotionModelSpec:
    """The specification of a motion model of ``version`` with one module for each place in ``unet``."""
    layout = LAYOUTS[version]
    sites = {part: [site.channels for site in places] for part, places in find_sites(unet).items()}
    spec = MotionModelSpec(
        name=name,
        layout="AnimateDiff",
        version=version,
        down=_levels(sites["down"], unet.num_res_blocks),
        mid=tuple(sites["mid"]) if layout.mid else (),
        up=_levels(sites["up"], [blocks + 1 for blocks in reversed(unet.num_res_blocks)]),
        attention_blocks=ATTENTION_BLOCKS,
        heads=PUBLISHED_HEADS,
        max_frames=layout.max_frames,
        parameters=0,
    )
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in MotionModel(spec).parameters())
    return replace(spec, parameters=parameters)


def _levels(channels: list[int], modules_per_level: list[int]) -> tuple[tuple[int, ...], ...]:
    places = iter(channels)
    return tuple(tuple(next(places) for _ in range(count)) for count in modules_per_level)


def initialise(motion_model: MotionModel, seed: int) -> None:
    """Fresh weights. The output projections are zero, so that the untrained model changes no picture (section 4.2)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in motion_model.named_parameters():
        norm = "norm" in name
        if name.endswith("bias"):
            parameter.data.zero_()
        elif norm:
            parameter.data.fill_(1.0)
        else:
            bound = parameter.shape[1] ** -0.5
            parameter.data.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    for module in motion_model.modules():
        if isinstance(module, TemporalTransformer):
            module.proj_out.weight.data.zero_()


def train_motion_module(
    model,
    latents: list[dict],
    positive: list[host.Conditioning],
    negative: host.Conditioning,
    settings: TrainingSettings,
    version: str = "v3",
    start=None,
    name: str = "trained",
    node_id: str | None = None,
):
    """Train a motion model for ``model``: a new one of the layout ``version``, or on from ``start``.

    ``start`` is a MOTION_MODEL_ADE; its layout wins over ``version``. Motion models that ``model`` carries take no part;
    its noise schedule is the one that is trained on. Returns ``(patcher of the trained model, record)``. Arguments else
    as in train_motion_lora; raises MotionModelMismatch if ``start`` does not fit.
    """
    diffusion_model = model.model.diffusion_model
    spec = start.model.spec if start is not None else new_spec(name, version, diffusion_model)
    check_fit(spec, diffusion_model)
    if settings.frames > spec.max_frames:
        raise TrainingFailed(
            f"frames is {settings.frames}, but a motion model of this layout ({spec.version}) has positions for "
            f"{spec.max_frames} frames. Lower frames or choose another layout."
        )
    clips = Clips.of(latents, len(positive), settings.frames)
    host.free_memory()
    device = host.training_device()
    if start is not None:
        motion_model = host.trainable_copy(start, torch.float32, device)
    else:
        # Weights to be trained are float32 whatever the UNet computes in: small steps would be rounded away.
        motion_model = MotionModel(spec, torch.float32)
        initialise(motion_model, settings.seed)
        motion_model.to(device)
    motion_model.requires_grad_(True)
    dtype = host.compute_dtype(settings.precision, device)
    unet = TrainingUNet(model, [motion_model], dtype, settings.checkpointing)
    unet.prepare([*positive, negative], clips.size, settings.frames)
    record = train(unet, list(motion_model.parameters()), clips, settings, lambda: (MotionInputs(),), node_id)
    tensors = {key: value.detach().cpu().clone() for key, value in motion_model.state_dict().items()}
    return motion_model_patcher(replace(spec, name=name), tensors), record


def motion_model_patcher(spec: MotionModelSpec, tensors: dict[str, torch.Tensor], disable_dynamic: bool = False):
    """A motion model from its tensors, as the host samples with it."""
    dtype = weight_dtype()
    motion_model = MotionModel(spec, dtype)
    tensors_as_loaded = {k: v.to(torch.float32 if k.endswith(".pe") else dtype) for k, v in tensors.items()}
    motion_model.load_state_dict(tensors_as_loaded)
    motion_model.eval().requires_grad_(False)
    return make_patcher(motion_model, (motion_model_patcher, (spec, tensors)), disable_dynamic)
