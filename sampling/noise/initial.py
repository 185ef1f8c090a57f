"""The noise a clip starts from: one generator for all frames or one per frame, repeated, shuffled (FreeNoise), in layers.

All noise is made on the CPU unless a ``[gpu]`` generator is chosen, in the dtype of the latents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_management
import torch

from ...host.told import Told
from ..strength.multival import for_latents, pictures
from .generator import seeded

Seed = int | list[int]  # a list holds one seed for each frame

NOISE_TYPES = ("default", "constant", "empty", "repeated_context", "FreeNoise")
DEFAULT, CONSTANT, EMPTY, REPEATED_CONTEXT, FREENOISE = NOISE_TYPES
GENERATORS = ("comfy", "comfy [gpu]", "auto1111", "auto1111 [gpu]")
USE_EXISTING = "use existing"
# Frames that batch_offset skips are drawn all the same: of 512 x 512 pixels a million take minutes.
MOST_SKIPPED = 1_000_000
# On a GPU they are drawn in one piece with the others: in parts the generator gives other noise.
MOST_BYTES = 4 << 30
CHUNK = 1 << 24  # numbers that are drawn at once to skip them: 64 MiB


class NoiseError(Told, ValueError):
    """Noise that cannot be made as asked for; the message says what to change."""


@dataclass(frozen=True)
class NoiseWindow:
    """Length and overlap of the windows that repeated and shuffled noise goes by."""

    length: int
    overlap: int
    closed_loop: bool = False


@dataclass(frozen=True)
class Source:
    """How noise is drawn. Offsets skip frames of the stream (``batch_offset``) or shift the seed."""

    noise_type: str = DEFAULT
    generator: str = GENERATORS[0]
    batch_offset: int = 0
    seed_offset: int = 0
    seed_override: Seed | None = None

    def draw(self, seed: Seed, latents: torch.Tensor, window: NoiseWindow | None) -> torch.Tensor:
        """Noise of the shape of ``latents (frames, channels, …)``. ``seed`` already has its offset."""
        if isinstance(seed, list):
            return _one_seed_per_frame(seed, latents)
        draw = _Draw(latents, seed, self.batch_offset, on_gpu=self.on_gpu)
        if self.noise_type == EMPTY:
            return torch.zeros_like(latents)
        per_frame = self.generator.startswith("auto1111")
        if self.noise_type == CONSTANT:
            frame = draw.frame(0) if per_frame else draw.stream(1)
            return frame.repeat(len(latents), *[1] * (latents.ndim - 1))
        noise = torch.cat([draw.frame(i) for i in range(len(latents))]) if per_frame else draw.stream(len(latents))
        if window is not None and self.noise_type == REPEATED_CONTEXT:
            return noise[[i % window.length for i in range(len(noise))]]
        if window is not None and self.noise_type == FREENOISE:
            return noise[freenoise_order(len(noise), window, seed)]
        return noise

    def check(self, latents: torch.Tensor, more: int = 0) -> None:
        """Raise NoiseError where noise for ``latents``, with ``more`` frames skipped, takes too long or too much memory."""
        seed_list = isinstance(self.seed_override, list)
        if seed_list or self.noise_type == EMPTY or self.generator.startswith("auto1111"):
            return  # no frames are skipped, or at no cost
        skipped = self.batch_offset + more
        if skipped > MOST_SKIPPED:
            raise NoiseError(
                f"batch_offset (with iter_batch_offset for each iteration) skips {skipped} frames of the noise; at most "
                f"{MOST_SKIPPED} are possible. Lower it, or choose the generator auto1111, which skips any number."
            )
        needed = (skipped + len(latents)) * latents[0].numel() * latents.element_size()
        if skipped and self.on_gpu and needed > MOST_BYTES:
            raise NoiseError(
                f"The noise of {skipped + len(latents)} frames, of which batch_offset skips {skipped}, takes "
                f"{needed / (1 << 30):.1f} GiB of the GPU's memory; at most {MOST_BYTES >> 30} GiB are possible. Lower "
                "batch_offset, or choose a generator without [gpu]."
            )

    @property
    def on_gpu(self) -> bool:
        return "[gpu]" in self.generator


@dataclass(frozen=True)
class _Draw:
    latents: torch.Tensor
    seed: int
    batch_offset: int
    on_gpu: bool

    def _generator(self, seed: int) -> torch.Generator:
        return seeded(seed, comfy.model_management.get_torch_device() if self.on_gpu else "cpu")

    def _randn(self, generator: torch.Generator, frames: int) -> torch.Tensor:
        shape = (frames, *self.latents.shape[1:])
        return torch.randn(shape, generator=generator, device=generator.device, dtype=self.latents.dtype)

    def stream(self, frames: int) -> torch.Tensor:
        """All frames from one generator, as the host does. Heeds Stop."""
        generator, skipped = self._generator(self.seed), self.batch_offset
        if not self.on_gpu:
            # PyTorch draws 16 numbers together, and at the end of a draw the last 16 anew: whole sixteens may be drawn
            # apart, as long as sixteen frames are left before those that count.
            chunk = max(1, CHUNK // (16 * self.latents[0].numel())) * 16
            while skipped >= 32:
                comfy.model_management.throw_exception_if_processing_interrupted()
                drawn = min(chunk, (skipped - 16) // 16 * 16)
                self._randn(generator, drawn)
                skipped -= drawn
        return self._randn(generator, frames + skipped)[skipped:].cpu()

    def frame(self, index: int) -> torch.Tensor:
        """One frame from a generator of its own, as AUTOMATIC1111's web UI does."""
        return self._randn(self._generator(self.seed + index + self.batch_offset), 1).cpu()


def _one_seed_per_frame(seeds: list[int], latents: torch.Tensor) -> torch.Tensor:
    if len(seeds) < len(latents):
        raise NoiseError(
            f"seed_override is a list of {len(seeds)} seeds, but the clip has {len(latents)} frames. Give one seed for each "
            "frame, or a single one."
        )
    one = latents[:1]
    return torch.cat([_Draw(one, seed, 0, on_gpu=False).stream(1) for seed in seeds[: len(latents)]])


def freenoise_order(frames: int, window: NoiseWindow, seed: int) -> list[int]:
    """Which frame's noise each frame gets: the first window's, reshuffled in steps of a window.

    Qiu et al., "FreeNoise" (arXiv 2310.15169), section 3.2.
    """
    order = list(range(frames))
    if frames <= window.length:
        return order
    step = window.length - window.overlap
    if step <= 0:
        raise NoiseError(
            f"FreeNoise moves on by what windows do not share, but the overlap is {window.overlap} and they are "
            f"{window.length} frames long. Lower the overlap; a quarter of the length is usual."
        )
    generator = seeded(seed)
    for start in range(0, frames - window.length, step):
        place = start + window.length
        count = min(step, frames - place)
        shuffled = torch.randperm(count, generator=generator).tolist()
        # in place: what was shuffled once is shuffled again further on
        order[place : place + count] = [order[start + i] for i in shuffled]
    return order


# How a layer's noise joins the one below it: (old, new, weight, balance) -> combined.
Combine = Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor]
COMBINATIONS: dict[str, Combine] = {
    "replace": lambda old, new, weight, balance: new,
    "add": lambda old, new, weight, balance: old + new * weight,
    "add weighted": lambda old, new, weight, balance: old * (1 - weight * balance) + new * weight,
    # keeps the variance of independent noise at one
    "normalized sum": lambda old, new, weight, balance: (
        (old * (1 - weight) + new * weight) / ((1 - weight) ** 2 + weight**2) ** 0.5
    ),
}


@dataclass(frozen=True, eq=False)
class NoiseLayer:
    """Noise laid over what is there, where ``mask (k, height, width)`` says. ``source.generator`` may be USE_EXISTING."""

    combination: str
    source: Source
    weight: float = 1.0
    balance: float = 1.0
    mask: torch.Tensor | None = None

    def over(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        combined = COMBINATIONS[self.combination](old, new, self.weight, self.balance)
        if self.mask is None:
            return combined
        mask = pictures(self.mask)
        # unlike other masks these begin anew behind their last picture
        mask = for_latents(mask[[i % len(mask) for i in range(len(old))]], old)
        return old * (1 - mask) + combined * mask


@dataclass(frozen=True, eq=False)
class NoiseSettings:
    source: Source = Source()
    layers: tuple[NoiseLayer, ...] = ()

    def of_layer(self, layer: NoiseLayer) -> Source:
        """The source of a layer, with the generator that USE_EXISTING means."""
        own = layer.source
        return replace(own, generator=self.source.generator) if own.generator == USE_EXISTING else own

    def check(self, latents: torch.Tensor, more: int = 0) -> None:
        """Raise NoiseError where the noise of a run that skips up to ``more`` frames besides cannot be made."""
        for source in (self.source, *map(self.of_layer, self.layers)):
            source.check(latents, more)

    @property
    def noise_types(self) -> set[str]:
        """Of the noise itself and of its layers."""
        return {self.source.noise_type, *(layer.source.noise_type for layer in self.layers)}

    def noise(
        self,
        seed: int,
        latents: torch.Tensor,
        given: torch.Tensor,
        window: NoiseWindow | None,
        batch_offset: int = 0,
        seed_offset: int = 0,
        force: bool = False,
    ) -> torch.Tensor:
        """The noise for a run with the sampler's ``seed``; ``given`` is what the sampler made.

        The offsets are added to those of every source. ``given`` is kept, under the layers, if the settings ask for
        nothing that differs from it; a single seed_override alone does not differ.
        """
        source = self.source
        base = _shifted(seed if source.seed_override is None else source.seed_override, source.seed_offset)
        differs = isinstance(base, list) or source != Source(seed_override=source.seed_override)
        noise = given
        if force or differs:
            drawn = replace(source, batch_offset=source.batch_offset + batch_offset)
            noise = drawn.draw(_shifted(base, seed_offset), latents, window)
        layers_seed = base[0] if isinstance(base, list) else base
        for layer in self.layers:
            own = self.of_layer(layer)
            own = replace(own, batch_offset=own.batch_offset + batch_offset)
            layer_seed = layers_seed if own.seed_override is None else own.seed_override
            new = own.draw(_shifted(layer_seed, own.seed_offset + seed_offset), latents, window)
            noise = layer.over(noise, new.to(noise))
        return noise


def _shifted(seed: Seed, offset: int) -> Seed:
    return [one + offset for one in seed] if isinstance(seed, list) else seed + offset
