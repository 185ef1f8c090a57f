"""The skip connections of a UNet in RAM, from where they are made to where they are used: they grow with the clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

RAM = torch.device("cpu")
# The host's patches around a skip connection: before it is kept, behind that, and where it is used.
BEFORE, BEHIND, USED = "input_block_patch", "input_block_patch_after_skip", "output_block_patch"


def in_ram(
    options: Mapping[str, Any], control: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """transformer_options and control of one UNet call whose skip connections are kept in RAM.

    The host adds what ControlNets give to the skip connection where that lies (and leaves it out, with a line in the log, where
    they are on two devices). So it goes there too, of which it has as much.
    """
    patches = options.get("patches") or {}
    skips = _Skips()
    patches = {
        **patches,
        # next to where it is kept, so that other packs' patches see the hidden state where they expect it
        BEFORE: [*patches.get(BEFORE, ()), skips.before],
        BEHIND: [skips.behind, *patches.get(BEHIND, ())],
        USED: [skips.used, *patches.get(USED, ())],
    }
    if control and "output" in control:
        output = [added if added is None else to_device(added, RAM) for added in control["output"]]
        control = {**control, "output": output}
    return {**options, "patches": patches}, control


def to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    return x.to(device)


class _Skips:
    def __init__(self):
        self.hidden: list[torch.Tensor] = []

    def before(self, h: torch.Tensor, options: Mapping[str, Any]) -> torch.Tensor:
        self.hidden.append(h)
        return to_device(h, RAM)

    def behind(self, h: torch.Tensor, options: Mapping[str, Any]) -> torch.Tensor:
        return self.hidden.pop()

    def used(
        self, h: torch.Tensor, skip: torch.Tensor, options: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return h, to_device(skip, h.device)
