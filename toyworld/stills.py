"""Training what the motion modules will stand on: the autoencoder and the text-to-image UNets.

Plain scripts, on the live weights alone (`toyworld.unet`): what the pack is for begins after them. A still is a picture
``(height, width, 3)`` in 0..1 and its caption.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import autoencoder, scenes, text_encoder, unet
from .fit import fit
from .prompts import precision

PICTURES = 24000
Still = tuple[np.ndarray, str]
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


def scene_still(draw: Callable) -> Callable[[np.random.Generator], Still]:
    """Stills of the toy world made by ``draw(scene)``."""

    def still(rng: np.random.Generator) -> Still:
        scene = scenes.random_scene(rng)
        return draw(scene), scene.caption

    return still


def any_scene(rng: np.random.Generator) -> np.ndarray:
    """Of every look that the autoencoder has to know."""
    scene = scenes.random_scene(rng) if rng.random() < 0.8 else scenes.random_zoom(rng)[rng.integers(scenes.FRAMES)]
    draw = scenes.draw_still if rng.random() < 0.7 else scenes.draw_personalised
    gap = rng.choice((0.0, 1.0, rng.random()), p=(0.6, 0.3, 0.1))
    return scenes.add_domain_gap(draw(scene), WIDEST_WATERMARK * gap, 1 - WIDEST_CONTRAST_LOSS * gap)


def _to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return batch.contiguous(memory_format=torch.channels_last)


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision() == "bf16")


def train_autoencoder(name: str, picture: Callable, folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Weights under names ``encoder.…`` and ``decoder.…``; ``picture(rng)`` makes what it has to know."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": autoencoder.encoder(), "decoder": autoencoder.decoder()})
    model = model.to(memory_format=torch.channels_last)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((0, step))
        noise = torch.Generator().manual_seed(step)
        pictures = _to_tensor([picture(rng) for _ in range(16)])
        with _autocast():
            latents = model["encoder"](pictures)
        latents = latents.float()
        # what the UNet will draw is never exact: the decoder has to put up with small errors
        noisy = latents + 0.05 * torch.randn(latents.shape, generator=noise)
        with _autocast():
            drawn = model["decoder"](noisy)
        error = (drawn.float() - pictures).abs()
        mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
        unit = (mean**2).mean() + (variance.clamp_min(1e-4).log() ** 2).mean()
        return error.mean() + 4 * (error**2).mean() + 0.02 * unit + 0.05 * torch.relu(latents.abs() - 2.5).mean()

    return fit(name, model, loss_of, folder, steps, learning_rate=2e-3)


def _dataset(
    still: Callable[[np.random.Generator], Still], weights: dict[str, torch.Tensor], seed: int
) -> tuple[torch.Tensor, list[str]]:
    """Latents of stills, and the caption of each."""
    encoder = autoencoder.encoder()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
    rng = np.random.default_rng(seed)
    parts, captions = [], []
    for _ in range(PICTURES // 200):
        stills = [still(rng) for _ in range(200)]
        captions += [caption for _, caption in stills]
        with torch.no_grad():
            parts.append(encoder(_to_tensor([picture for picture, _ in stills])))
    return torch.cat(parts), captions


def train_unet(
    name: str,
    still: Callable[[np.random.Generator], Still],
    weights: dict[str, torch.Tensor],
    texts: Sequence[str],
    folder: Path,
    steps: int,
    learning_rate: float,
    start: dict[str, torch.Tensor] | None = None,
    horizon: int | None = None,
    batch: int = 64,
) -> dict[str, torch.Tensor]:
    """Train a text-to-image UNet on stills made by ``still(rng)``, whose captions are all of ``texts``; ``start`` fine-tunes."""
    if (folder / f"{name}.pt").exists():
        return torch.load(folder / f"{name}.pt")
    torch.manual_seed(1)
    model = unet.live_unet()
    if start is not None:
        model.load_state_dict(start)
    alphas = alphas_cumprod()
    latents, of_stills = _dataset(still, weights, seed=len(name))
    captions = torch.tensor([texts.index(caption) for caption in of_stills])
    contexts = text_encoder.contexts([*texts, ""])[..., : unet.LIVE_TEXT]

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
        with _autocast():
            predicted = model(noisy, t.float(), context=contexts[caption])
        return nn.functional.mse_loss(predicted.float(), noise)

    return fit(name, model, loss_of, folder, steps, learning_rate, ema=0.999, horizon=horizon)
