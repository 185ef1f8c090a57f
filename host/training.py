"""Copies of the host's models that gradients can flow through, and what a node says while it trains."""

import copy
import gc
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.conds
import comfy.lora
import comfy.model_management
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from PIL import Image
from torch import nn

from . import vae
from .device import training_device as training_device
from .gradients import differentiable
from .patcher import is_dynamic
from .preview import FRAMES_PER_SECOND, MovingPreview
from .progress import show_text

Conditioning = list  # the host's CONDITIONING: [[tensor, options], ...]


def free_memory() -> None:
    """Unload all models, so that weights are as loaded from their files and the device is free for training."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def collect_garbage() -> None:
    """Give back the memory of a training that is over: its networks refer to each other in cycles."""
    gc.collect()
    comfy.model_management.soft_empty_cache()


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the frozen network for ``precision`` ("auto", "fp32", "bf16" or "fp16")."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda" and comfy.model_management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float32


def trainable_copy(patcher, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of the patcher's network with its LoRAs and other weight patches applied, frozen, on ``device``.

    The host creates weights in inference mode, and such tensors take no part in autograd; the copy's do. The
    original is only read. Call it outside inference mode and after ``free_memory``.
    """
    if is_dynamic(patcher):
        # weights that the host pages in and out cannot be copied one by one
        patcher = patcher.clone(disable_dynamic=True)
    model = patcher.model
    # What deepcopy finds in `memo` it takes for the copy, so that no weight exists twice on the way.
    memo: dict[int, object] = {}
    for name, weight in model.named_parameters():
        patches = patcher.patches.get(name)
        value = weight.detach().to(torch.float32 if patches else dtype, copy=True)
        if patches:
            value = comfy.lora.calculate_weight(patches, value, name).to(dtype)
        memo[id(weight)] = nn.Parameter(value.to(device), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().clone().to(device)  # position tables stay float32
    # configuration, latent format, the patcher at work: read only, and not all of it can be copied
    memo |= {id(value): value for name, value in vars(model).items() if not name.startswith("_")}
    return copy.deepcopy(model, memo)


def unet_copy(patcher, dtype: torch.dtype, device: torch.device) -> Any:
    """``trainable_copy`` of a MODEL: the host's BaseModel, computing in ``dtype``, with the MODEL's noise schedule."""
    base = trainable_copy(patcher, dtype, device)
    base.model_sampling = copy.deepcopy(patcher.get_model_object("model_sampling"))
    base.manual_cast_dtype = dtype
    base.diffusion_model.dtype = dtype
    return base


def transformer_options(patcher) -> dict:
    """The MODEL's options for its UNet, with an attention function that has a backward pass everywhere."""
    return differentiable(patcher.model_options["transformer_options"])


def predicts_v(model_sampling: nn.Module) -> bool:
    """Whether a network with this noise schedule is one that predicts v (of data with a variance of 1)."""
    return isinstance(model_sampling, comfy.model_sampling.V_PREDICTION) and not isinstance(
        model_sampling, comfy.model_sampling.EDM
    )


class PreparedConds:
    """Conditionings as the UNet takes them, computed once; ``batch`` gives those of the clips of one step."""

    def __init__(self, base: nn.Module, conditionings: list[Conditioning], latent: torch.Tensor, device: torch.device):
        """``latent (frames, channels, height, width)`` says for which size the conditionings are made."""
        # the same caption of many clips, as of one that is repeated, is computed and kept once
        places: dict[int, int] = {}
        self.places = [places.setdefault(id(conditioning), len(places)) for conditioning in conditionings]
        unique = {id(conditioning): conditioning for conditioning in conditionings}
        conds = [comfy.sampler_helpers.convert_cond(conditioning)[0] for conditioning in unique.values()]
        for cond in conds:
            cond["cross_attn"] = cond["cross_attn"].detach().clone()
        # inpainting checkpoints want latent_image: they are trained with all of the picture masked
        conds = comfy.samplers.encode_model_conds(
            base.extra_conds, conds, latent, device, "positive", latent_image=latent
        )
        self.conds = [cond["model_conds"] for cond in conds]

    def still(self, indices: list[int]) -> bool:
        """Whether the texts are the same in all frames of a clip, as those of one prompt are."""
        return all(len(self.conds[self.places[index]]["c_crossattn"].cond) == 1 for index in indices)

    def batch(self, indices: list[int], frames: int) -> dict[str, torch.Tensor]:
        """Keyword arguments of ``apply_model`` for ``len(indices)`` clips of ``frames`` frames."""
        found: dict[str, list] = {}
        for index in indices:
            for name, cond in self.conds[self.places[index]].items():
                # cloned: text embeddings and the like were made in inference mode
                found.setdefault(name, []).append(cond.process_cond(batch_size=frames, area=None))
        conds = {name: parts[0].concat(parts[1:]) for name, parts in found.items()}
        return {name: cond.clone() if isinstance(cond, torch.Tensor) else cond for name, cond in conds.items()}


SHOW_EVERY, LOG_EVERY = 2.0, 15.0  # seconds
PICTURE_SIZE = 480  # pixels of the longer side


class Progress:
    """The node's progress bar, its line of text, its moving picture, and now and then a line in the log."""

    def __init__(self, total: int, node_id: str | None, done: int = 0):
        """``done``: how many of ``total`` were done before."""
        self.first = done
        self.bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self.node_id = node_id
        self.preview = None if node_id is None else MovingPreview(node_id, PICTURE_SIZE)
        self.total = total
        self.start = time.monotonic()
        self.shown = self.logged = 0.0

    def step(self, done: int, losses: str, pictures: Callable[[], Sequence[Image.Image]]) -> None:
        """``pictures`` draws what the node shows: now and then, and only in a server."""
        self.bar.update_absolute(done, self.total)
        now = time.monotonic()
        pace = (done - self.first) / (now - self.start)
        text = f"step {done} of {self.total}, {losses}, {pace:.2f} steps/s, {time_left((self.total - done) / pace)}"
        if now - self.shown > SHOW_EVERY or done == self.total:
            self.shown = now
            if self.node_id is not None and self.preview is not None:
                show_text(text, self.node_id)
                self.preview.show(pictures)
        if now - self.logged > LOG_EVERY or done == self.total:
            self.logged = now
            logging.info("AnimateDiff training: %s", text)

    def close(self) -> None:
        if self.preview is not None:
            self.preview.close()


def time_left(seconds: float) -> str:
    """In words, of a clock's shape where it is long: "40 s left", "12:05 min left", "3:20 h left"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s left"
    large, small, unit = (*divmod(seconds, 60), "min") if seconds < 3600 else (*divmod(seconds // 60, 60), "h")
    return f"{large}:{small:02d} {unit} left"


# Raised by the host's layers and progress bar once the user has pressed Stop. With it the request counts as served:
# where it is caught, the nodes behind still run.
Stopped = comfy.model_management.InterruptProcessingException
check_stopped = comfy.model_management.throw_exception_if_processing_interrupted
forget_stop = partial(comfy.model_management.interrupt_current_processing, False)
OutOfMemory = comfy.model_management.OOM_EXCEPTION


def _rough_colours(base: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pictures ``(frames, height, width, 3)`` in 0..1 of latents ``(frames, channels, height, width)``.

    Drawn with the colours that the host knows for the latent channels, without an autoencoder.
    """
    factors = torch.tensor(base.latent_format.latent_rgb_factors)
    bias = torch.tensor(base.latent_format.latent_rgb_factors_bias or [0.0, 0.0, 0.0])
    rgb = torch.einsum("fchw,cr->fhwr", latents.float().cpu(), factors) + bias
    return ((rgb + 1) / 2).clamp(0, 1)


def _picture(pixels: torch.Tensor, scale: int) -> Image.Image:
    picture = Image.fromarray(pixels.mul(255).byte().cpu().numpy())
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)


def clip_pictures(base: Any, latents: torch.Tensor, autoencoder: Any = None) -> list[Image.Image]:
    """The frames of a clip, of latents ``(frames, channels, height, width)`` in the UNet's scale.

    ``autoencoder`` is a VAE of the host; without one they are drawn in rough colours.
    """
    if autoencoder is not None:
        with torch.inference_mode():
            pixels = vae.decode(autoencoder, base.process_latent_out(latents.clone()))
        return [_picture(frame.float().clamp(0, 1), scale=1) for frame in pixels]
    return [_picture(frame, scale=4) for frame in _rough_colours(base, latents)]


def save_clip(pictures: list[Image.Image], path: str) -> None:
    """Write an animated WebP, whatever ``path`` ends with."""
    pictures[0].save(
        path, format="WEBP", save_all=True, append_images=pictures[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
    )
