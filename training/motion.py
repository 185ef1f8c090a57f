"""Whether the motion of the clips has been learned: what the network makes of pure noise is to move as they do.

The loss cannot tell: at high noise, where it is decided what moves where, nearly all of it is noise that nobody can know.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional

from ..host import training as host
from .clips import Clips
from .settings import TrainingSettings
from .unet import TrainingUNet

CELLS = 2  # across and down: enough to tell a zoom or a turn from a pan
FINEST = 16  # latents: movements of more than one of them between two frames cannot be told from their gradients
CANCELS = 0.2  # of what moves in a clip: where less is left of it in sum, it goes nowhere
AGREE = 0.3  # clips that share less than this have no motion in common
MOST_CLIPS = 50  # that are asked for it: they may have to be read from disk
NOISES = 4  # each once more in reverse order
LEVELS, DRAWN = 10, 5  # steps of a whole sampling, and how many of them are made: motion is decided in the first
LEAST_EVERY, MEASUREMENTS = 25, 10


def motion_field(latents: torch.Tensor) -> torch.Tensor:
    """Which way a clip ``(frames, channels, height, width)`` moves in each cell of the picture, ``(2, CELLS, CELLS)`` as x, y.

    The mean of ``-dI/dt grad I``: what stands still is not in it, and for edges of all directions it points along the motion (the right
    side of the normal equations of Lucas and Kanade, 1981). Its length tells of contrast more than of speed.
    """
    return _moved(latents).sum(1)


def _moved(latents: torch.Tensor) -> torch.Tensor:
    """What ``motion_field`` adds up: its positive and its negative part, ``(2, 2, CELLS, CELLS)`` with the parts second."""
    height, width = (min(size, FINEST) for size in latents.shape[2:])
    pictures = functional.adaptive_avg_pool2d(latents.float(), (height, width))
    change = pictures.diff(dim=0)[..., 1:-1, 1:-1]
    between = (pictures[1:] + pictures[:-1]) / 2
    across = (between[..., 1:-1, 2:] - between[..., 1:-1, :-2]) / 2
    down = (between[..., 2:, 1:-1] - between[..., :-2, 1:-1]) / 2
    products = [-(gradient * change) for gradient in (across, down)]
    parts = torch.stack([torch.stack((one.clamp_min(0).sum((0, 1)), one.clamp_max(0).sum((0, 1)))) for one in products])
    return functional.adaptive_avg_pool2d(parts.flatten(0, 1), CELLS).unflatten(0, (2, 2))


def common_direction(clips: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The direction that ``clips`` share in each cell, unit vectors ``(2, CELLS, CELLS)``; None if they share none.

    There is none in a motion that looks the same backwards, as a swing to and fro does.
    """
    moved = torch.stack([_moved(clip) for clip in clips])
    fields, whole = moved.sum(2), moved.abs().sum(2)
    lengths, most = (one.norm(dim=1).sum((1, 2)) for one in (fields, whole))
    # every clip counts alike, whatever its contrast, but for those whose movements cancel out
    weights = torch.where(lengths > CANCELS * most, 1 / lengths.clamp_min(1e-12), 0.0)
    fields = fields * weights.view(-1, 1, 1, 1)
    together = fields.sum(0)
    shared = together.norm(dim=0).sum() / len(clips)
    return functional.normalize(together, dim=0) if shared > AGREE else None


def degrees_from(direction: torch.Tensor, latents: torch.Tensor) -> float:
    """The angle between the motion of a clip and ``direction``: 0 the same, 90 none in common, 180 the opposite."""
    field = motion_field(latents).to(direction)
    cosine = (field * direction).sum() / field.norm(dim=0).sum().clamp_min(1e-12)
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).item()


class MotionCheck:
    """Measures the motion error of weights at hand, always from the same noise.

    ``shared`` is None where the clips have no direction in common; then there is nothing to measure.
    """

    def __init__(self, unet: TrainingUNet, clips: Clips, settings: TrainingSettings):
        self.unet, self.clips, self.at_once, self.last = unet, clips, settings.batch, settings.steps
        self.shared = common_direction(clips.latents[:MOST_CLIPS])
        self.every = max(LEAST_EVERY, -(-settings.steps // MEASUREMENTS))
        shape = (NOISES, settings.frames, *clips.latents[0].shape[1:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        # Noise suggests a motion to the network. In reverse it suggests the opposite one, so that both together suggest none.
        self.noise = torch.cat((noise, noise.flip(1)))

    def due(self, step: int) -> bool:
        return self.shared is not None and self.last >= LEAST_EVERY and (step % self.every == 0 or step == self.last)

    @torch.no_grad()
    def error(self, inputs: tuple) -> float:
        """The mean of degrees_from over clips that are begun from noise, with the captions of the first clips."""
        assert self.shared is not None
        unet = self.unet
        levels = unet.sigma(torch.linspace(unet.timesteps - 1, 0, LEVELS).round().long())[:DRAWN]
        captions = [self.clips.conditioning[i % len(self.clips.conditioning)] for i in range(len(self.noise))]
        found = []
        for first in range(0, len(self.noise), self.at_once):
            part = slice(first, first + self.at_once)
            x = self.noise[part].to(unet.device) * levels[0]
            conditionings = captions[part]
            for sigma, following in pairwise((*levels, levels.new_zeros(()))):
                host.check_stopped()
                denoised = unet.denoised(x, sigma.expand(len(x)), conditionings, inputs)
                x = denoised + (x - denoised) * following / sigma
            found += [degrees_from(self.shared, clip) for clip in x.cpu()]
        return sum(found) / len(found)
