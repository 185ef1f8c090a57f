"""Where chance comes from."""

import torch

SEEDS = 1 << 64  # of a generator


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own. Seeds wrap around, so that any offset can be added to any seed."""
    return torch.Generator(device).manual_seed(seed % SEEDS)
