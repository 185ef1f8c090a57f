"""Training motion modules, from scratch or from one that exists (AnimateDiff, arXiv 2307.04725, section 4.2)."""

from dataclasses import replace
from itertools import chain
from math import prod
from typing import Any

import torch

from ..host import folders
from ..host import training as host
from ..motion_models.files.checking import tensor_shapes
from ..motion_models.files.motion_model import new_motion_model
from ..motion_models.files.saving import METADATA_PREFIX, write_motion_model
from ..motion_models.files.weights import dtype_of, network_of
from ..motion_models.layouts import LAYOUTS, VERSIONS
from ..motion_models.network.call import MotionInputs
from ..motion_models.network.injection import check_fit, check_unet, find_sites
from ..motion_models.network.positions import sinusoidal_table
from ..motion_models.network.temporal import MotionModel
from ..motion_models.spec import MotionModelSpec
from ..sampling.schedules import beta_schedules
from .checkpoints import Checkpoints
from .clips import TrainingData
from .optimizers import OPTIMIZERS
from .settings import TrainingFailed, TrainingSettings
from .spread import spread
from .trainer import train
from .unet import TrainingUNet

LAYOUT = LAYOUTS["AnimateDiff"]
ATTENTION_BLOCKS = 2
NAME = "trained"


def new_spec(name: str, version: str, unet: Any) -> MotionModelSpec:
    """The specification of a motion model of ``version`` with one module for each place in ``unet``."""
    of_version = VERSIONS[version]
    sites = {part: [site.channels for site in places] for part, places in find_sites(unet).items()}
    spec = MotionModelSpec(
        name=name,
        layout=LAYOUT.name,
        version=version,
        down=_levels(sites["down"], unet.num_res_blocks),
        mid=tuple(sites["mid"]) if of_version.mid else (),
        up=_levels(sites["up"], [blocks + 1 for blocks in reversed(unet.num_res_blocks)]),
        attention_blocks=ATTENTION_BLOCKS,
        heads=LAYOUT.heads,
        max_frames=of_version.max_frames,
        parameters=0,
    )
    shapes = tensor_shapes(spec).items()
    return replace(spec, parameters=sum(prod(shape) for name, shape in shapes if not name.endswith(".pe")))


def _levels(channels: list[int], modules_per_level: list[int]) -> tuple[tuple[int, ...], ...]:
    places = iter(channels)
    return tuple(tuple(next(places) for _ in range(count)) for count in modules_per_level)


def new_weights(spec: MotionModelSpec, seed: int) -> dict[str, torch.Tensor]:
    """Fresh tensors of a motion model, float32, by the names of its state dict.

    The output projections are zero, so that the untrained model changes no picture (section 4.2).
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in tensor_shapes(spec).items():
        if name.endswith(".pe"):
            tensors[name] = sinusoidal_table(*shape[1:])
        elif len(shape) == 1:
            tensors[name] = torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
        else:
            bound = 0.0 if name.endswith("proj_out.weight") else shape[1] ** -0.5
            tensors[name] = (torch.rand(shape, generator=generator) * 2 - 1) * bound
    return tensors


def train_motion_module(
    model,
    latents: list[dict],
    positive: list[host.Conditioning],
    negative: host.Conditioning,
    settings: TrainingSettings,
    version: str = "v3",
    beta_schedule: str = beta_schedules.AUTOSELECT,
    start=None,
    node_id: str | None = None,
):
    """Train a motion model for ``model``: a new one of ``version``, or on from ``start``.

    ``start`` is a MOTION_MODEL_ADE; its version wins over ``version``. ``beta_schedule`` is an option of the nodes' inputs
    of that name; AUTOSELECT means the schedule that it selects for the trained model in sampling. Motion models that
    ``model`` carries take no part. Returns ``(patcher of the trained model, record)``. Arguments else as in
    train_motion_lora; raises MotionModelMismatch if ``model`` has no Stable Diffusion UNet or ``start`` does not fit it.
    """
    diffusion_model = model.model.diffusion_model
    check_unet(diffusion_model, "A motion module is trained")
    spec = start.model.spec if start is not None else new_spec(NAME, version, diffusion_model)
    check_fit(spec, diffusion_model)
    if settings.frames > spec.max_frames:
        raise TrainingFailed(
            f"frames is {settings.frames}, but a motion model of this layout ({spec.version}) has positions for "
            f"{spec.max_frames} frames. Lower frames or choose another layout."
        )
    data = TrainingData.of(latents, positive, negative, settings)
    checkpoints = Checkpoints.of(settings.options.checkpoints, folders.MOTION_MODELS)
    if beta_schedule == beta_schedules.AUTOSELECT:
        beta_schedule = spec.beta_schedule
    model = beta_schedules.with_schedule(model, beta_schedule)
    host.free_memory()
    device = host.training_device()
    if start is not None:
        motion_model = host.trainable_copy(start, torch.float32, device)
    else:
        # Weights to be trained are float32 whatever the UNet computes in: small steps would be rounded away.
        motion_model = network_of(lambda: MotionModel(spec, torch.float32), new_weights(spec, settings.seed)).to(device)
    motion_model.requires_grad_(True)
    # The optimisers of other packages do not know tensors in parts; nor is a gradient in parts looked through for fp16.
    in_parts = not OPTIMIZERS[settings.optimizer].package and settings.precision != "fp16"
    units = spread(motion_model.motion_modules(), device) if in_parts else []  # pyright: ignore[reportCallIssue]
    dtype = host.compute_dtype(settings.precision, device)
    unet = TrainingUNet(model, [motion_model], dtype, settings.checkpointing)  # pyright: ignore[reportArgumentType]
    unet.prepare(data.conditionings, data.sizes, settings.frames)

    def weights(copy: bool) -> dict[str, torch.Tensor]:
        """As the host samples with them, on the CPU."""
        # not its state dict, which would be that of the parts
        named = chain(motion_model.named_parameters(), motion_model.named_buffers())
        return {name: value.detach().to("cpu", dtype_of(name), copy=copy) for name, value in named}

    trained = replace(spec, name=NAME)

    def save(path: str, steps: int) -> None:
        write_motion_model(trained, weights(copy=False), path, {f"{METADATA_PREFIX}steps": steps})

    named = dict(motion_model.named_parameters())
    inputs = (MotionInputs(),)
    with train(unet, named, data, settings, save, inputs, checkpoints, node_id, units=units) as record:
        return new_motion_model(trained, weights(copy=True)), record
