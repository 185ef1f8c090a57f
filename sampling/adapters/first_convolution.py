"""Pictures that the UNet sees beside the latents: what they add behind its first convolution, in one denoiser call.

They travel with the conditioning, as the host's own further channels do, so that it cuts them to the area of a cond;
and what an ImageInput makes of them is added through the host's patches behind input blocks. The UNet stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import comfy.model_management
import comfy.utils
import torch
from comfy.conds import CONDNoiseShape
from comfy.patcher_extension import WrappersMP

from ...host.compiling import is_compiled
from ..feature import Call, Run

# In the transformer_options of a call: its ImageInputs; and, in those that the UNet sees, their pictures.
INPUTS, PICTURES = "animatediff_image_inputs", "animatediff_pictures"
FIRST_BLOCK = ("input", 0)
AT_ONCE = 16  # pictures in the VAE; then Stop is looked for

# ``(h, …)`` -> what is added to the embedding of the time step, of the dtype and on the device of what is given
Embedding = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Beside:
    """``network``: an ImageInput. ``embedding`` gives what is added to the embedding of the time step."""

    network: Callable[[torch.Tensor], torch.Tensor]
    embedding: Embedding | None = None


def seeing(call: Call, beside: Beside, pictures: torch.Tensor) -> Call:
    """``call`` in which the UNet sees ``pictures (frames of the call, channels, height, width)`` through ``beside``."""
    options = call.transformer_options
    before = options.get(INPUTS, ())
    carried = CONDNoiseShape(pictures)
    conds = [
        cond
        and [{**entry, "model_conds": {**entry["model_conds"], f"{PICTURES}{len(before)}": carried}} for entry in cond]
        for cond in call.conds
    ]
    call = replace(call, conds=conds).with_options(**{INPUTS: (*before, beside)})
    if before:
        return call
    patches, wrappers = options.get("patches", {}), options.get("wrappers", {})
    behind, of_time = _patches(is_compiled(call.run.model_options))
    return call.with_options(
        # ours first: another may change the size of what comes out of the first block
        patches={
            **patches,
            "input_block_patch": [behind, *patches.get("input_block_patch", ())],
            "emb_patch": [of_time, *patches.get("emb_patch", ())],
        },
        wrappers={
            **wrappers,
            WrappersMP.APPLY_MODEL: {**wrappers.get(WrappersMP.APPLY_MODEL, {}), INPUTS: [_apply_model]},
        },
    )


@cache
def _patches(compiled: bool) -> tuple[Callable, Callable]:
    """Out of what torch.compile makes of a UNet: there, they would go by the options of the first call."""
    disable: Callable = torch.compiler.disable
    return (disable(_add_pictures), disable(_add_embeddings)) if compiled else (_add_pictures, _add_embeddings)


def _apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """APPLY_MODEL wrapper: pictures leave the conditioning, which the host has cut and put together for the batch ``x``."""
    options = transformer_options or {}
    pictures = tuple(kwargs.pop(f"{PICTURES}{i}", None) for i in range(len(options[INPUTS])))
    for picture in pictures:
        if picture is None or picture.shape[:1] + picture.shape[2:] != x.shape[:1] + x.shape[2:]:
            raise ValueError(
                f"The UNet was called with latents of the shape {tuple(x.shape)}, for which the picture of the motion model has "
                "not been cut. Another node on the MODEL takes frames or pictures apart (tiling, batching): remove that node."
            )
    options = {**options, PICTURES: pictures}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _add_pictures(h: torch.Tensor, transformer_options: dict) -> torch.Tensor:
    """The host's input_block_patch: ``h (batch, channels, height, width)`` comes out of an input block."""
    if transformer_options["block"] != FIRST_BLOCK:
        return h
    for beside, pictures in zip(transformer_options[INPUTS], transformer_options[PICTURES], strict=True):
        h = h + beside.network(pictures.to(h))
    return h


def _add_embeddings(emb: torch.Tensor, model_channels: int, transformer_options: dict) -> torch.Tensor:
    """The host's emb_patch: ``emb (batch, channels)`` is the embedding of the time step."""
    for beside in transformer_options[INPUTS]:
        if beside.embedding is not None:
            emb = emb + beside.embedding(emb)
    return emb


def check(network, vae, run: Run, name: str) -> None:
    """Raise ValueError if the ImageInput ``network`` of the motion model ``name``, the VAE and the run's model do not fit."""
    latents = run.latents.shape[1]
    if latents != network.latent_channels:
        raise ValueError(
            f"'{name}' takes latents of {network.latent_channels} channels, but those being sampled have {latents}. Load a "
            "checkpoint of Stable Diffusion 1.5."
        )
    of_vae = getattr(vae, "latent_channels", latents)  # other packs' need not say
    if of_vae != latents:
        raise ValueError(
            f"The vae makes latents of {of_vae} channels, but the checkpoint takes {latents}. Connect the VAE of "
            "the checkpoint that samples the clip."
        )
    channels = run.patcher.get_model_object("diffusion_model").model_channels
    if channels != network.channels:
        raise ValueError(
            f"The image input of '{name}' is for a UNet of {network.channels} channels, but this checkpoint's has {channels}. Use a "
            "file made for this checkpoint's family."
        )


def encoded(images: torch.Tensor, vae, run: Run) -> torch.Tensor:
    """The first of ``images (k, height, width, 3 or more)``, as many as the clip has frames, as latents in the UNet's scale."""
    height, width = (side * vae.spacial_compression_encode() for side in run.latents.shape[-2:])
    images = images[: run.frames, ..., :3].movedim(-1, 1)
    images = comfy.utils.common_upscale(images, width, height, "bilinear", "center").movedim(1, -1)
    latents = []
    for part in images.split(AT_ONCE):
        comfy.model_management.throw_exception_if_processing_interrupted()
        latents.append(vae.encode(part))
    return run.latent_format.process_in(torch.cat(latents)).to(run.device, torch.float32)
