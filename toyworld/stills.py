"""Training what the motion modules will stand on: the autoencoder and the two text-to-image UNets.

Plain scripts, on the live weights alone (`toyworld.unet`): what the pack is for begins after them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import autoencoder, scenes, unet
from .fit import fit

PICTURES = 24000
TIMESTEPS = 1000
CAPTION_DROPOUT = 0.1
# The autoencoder has to know more than the videos show.
WIDEST_WATERMARK, WIDEST_CONTRAST_LOSS = 0.4, 0.25
# Share of pictures that are noised as in the motion stage (arXiv 2307.04725: a linear schedule), whose
# noise goes further. A large model copes with the difference; this one would leave it to the motion module to mend.
LINEAR_SHARE = 0.7


def alphas_cumprod() -> torch.Tensor:
    """Two noise schedules ``(2, TIMESTEPS)``: Stable Diffusion's, whose roots of beta are evenly spaced, and linear."""
    first, last = 0.00085, 0.012
    roots = torch.linspace(first**0.5, last**0.5, TIMESTEPS, dtype=torch.float64)
    betas = torch.stack((roots**2, torch.linspace(first, last, TIMESTEPS, dtype=torch.float64)))
    return torch.cumprod(1 - betas, 1).float()


def _any_picture(rng: np.random.Generator) -> np.ndarray:
    """Of every look that the autoencoder has to know."""
    scene = scenes.random_scene(rng) if rng.random() < 0.8 else scenes.random_zoom(rng)[rng.integers(scenes.FRAMES)]
    draw = scenes.draw_still if rng.random() < 0.7 else scenes.draw_personalised
    gap = rng.choice((0.0, 1.0, rng.random()), p=(0.6, 0.3, 0.1))
    return scenes.add_domain_gap(draw(scene), WIDEST_WATERMARK * gap, 1 - WIDEST_CONTRAST_LOSS * gap)


def _to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return batch.contiguous(memory_format=torch.channels_last)


def train_autoencoder(folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Weights under names ``encoder.…`` and ``decoder.…``."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": autoencoder.encoder(), "decoder": autoencoder.decoder()})
    model = model.to(memory_format=torch.channels_last)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((0, step))
        noise = torch.Generator().manual_seed(step)
        pictures = _to_tensor([_any_picture(rng) for _ in range(16)])
        latents = model["encoder"](pictures)
        # what the UNet will draw is never exact: the decoder has to put up with small errors
        noisy = latents + 0.05 * torch.randn(latents.shape, generator=noise)
        error = (model["decoder"](noisy) - pictures).abs()
        mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
        unit = (mean**2).mean() + (variance.clamp_min(1e-4).log() ** 2).mean()
        return error.mean() + 4 * (error**2).mean() + 0.02 * unit + 0.05 * torch.relu(latents.abs() - 2.5).mean()

    return fit("autoencoder", model, loss_of, folder, steps, learning_rate=2e-3)


def _dataset(draw: Callable, weights: dict[str, torch.Tensor], seed: int) -> tuple[torch.Tensor, list[int]]:
    """Latents of still pictures and the number of the caption of each."""
    encoder = autoencoder.encoder()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
    rng = np.random.default_rng(seed)
    drawn = [scenes.random_scene(rng) for _ in range(PICTURES)]
    captions = [scenes.CAPTIONS.index(scene.caption) for scene in drawn]
    with torch.no_grad():
        parts = [encoder(_to_tensor([draw(scene) for scene in drawn[i : i + 200]])) for i in range(0, PICTURES, 200)]
    return torch.cat(parts), captions


def train_unet(
    name: str,
    draw: Callable,
    weights: dict[str, torch.Tensor],
    contexts: torch.Tensor,
    folder: Path,
    steps: int,
    learning_rate: float,
    start: dict[str, torch.Tensor] | None = None,
    horizon: int | None = None,
    batch: int = 64,
) -> dict[str, torch.Tensor]:
    """Train a text-to-image UNet on stills made by ``draw``; ``start`` fine-tunes.

    ``contexts (captions + 1, tokens, 768)`` are the text encoder's outputs, that of the empty text last.
    """
    if (folder / f"{name}.pt").exists():
        return torch.load(folder / f"{name}.pt")
    torch.manual_seed(1)
    model = unet.live_unet()
    if start is not None:
        model.load_state_dict(start)
    alphas = alphas_cumprod()
    latents, captions = _dataset(draw, weights, seed=len(name))
    captions = torch.tensor(captions)
    contexts = contexts[..., : unet.LIVE_TEXT]

    def loss_of(step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(latents), (batch,), generator=generator)
        caption = captions[chosen]
        caption[torch.rand(batch, generator=generator) < CAPTION_DROPOUT] = len(contexts) - 1
        t = torch.randint(TIMESTEPS, (batch,), generator=generator)
        noise = torch.randn(latents[chosen].shape, generator=generator)
        schedule = (torch.rand(batch, generator=generator) < LINEAR_SHARE).long()
        a = alphas[schedule, t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * latents[chosen] + (1 - a).sqrt() * noise
        predicted = model(noisy, t.float(), context=contexts[caption])
        return nn.functional.mse_loss(predicted, noise)

    return fit(name, model, loss_of, folder, steps, learning_rate, ema=0.999, horizon=horizon)
