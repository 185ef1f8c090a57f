"""What an applied motion model brings besides its temporal modules: a picture to start from, a camera.

An adapter tells the motion model's network more in each denoiser call (``AdapterInPass.inputs``), or changes the call
itself, its conditioning or options (``around_call``). What is known of it stays in its own file: motion models carry
adapters without knowing any by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import torch

from ...motion_models.network.call import MotionInputs
from ...motion_models.spec import MotionModelSpec
from ..feature import Call, Denoise, Predictions, Run
from ..windows.schedules import Window

# What keyframes say to adapters: the name of an input, such as "cameractrl_multival", to its value.
Values = Mapping[str, Any]
# Of what PerWindow keeps where it is computed; the rest waits in the computer's memory.
MOST_BYTES = 512 << 20


class AdapterInPass:
    """What an adapter does in one pass over the sampling schedule; it may remember what it has computed.

    ``values``: what the keyframe in force says, and those before it whose values it inherits. It is one and the same object
    for as long as the keyframe is in force.
    """

    def inputs(self, call: Call, values: Values, inputs: MotionInputs) -> MotionInputs:
        """What the motion model is told in ``call``, from what it is told already.

        Asked in every call: where the motion model does not act, ``inputs`` has an effect of 0 everywhere.
        """
        return inputs

    def around_call(self, call: Call, values: Values, inputs: MotionInputs, then: Denoise) -> Predictions:
        """Around each denoiser call in which the motion model acts: in its percent range, with an effect other than 0.

        ``inputs``: what the motion model is told, but for what adapters add.
        """
        return then(call)


class Adapter:
    """What the user connected. Immutable: what lasts for one pass is in the AdapterInPass."""

    # Whether it was trained in a UNet with joint group norm, whatever its motion model was.
    joint_group_norm = False

    @property
    def patchers(self) -> tuple[Any, ...]:
        """The host's patchers of the adapter's own networks, which it loads and offloads with the MODEL."""
        return ()

    def check(self, run: Run, spec: MotionModelSpec) -> None:
        """Raise, in words, before the GPU works. ``spec`` is that of the motion model."""

    def begin(self, run: Run, spec: MotionModelSpec) -> AdapterInPass:
        """A pass begins; the networks are not loaded yet."""
        return AdapterInPass()


class PerWindow:
    """Tensors of frames that take long to compute and serve every step of a pass: one list for each window of the clip."""

    def __init__(self, device: torch.device):
        """``device``: where the tensors are computed and wanted."""
        self.device = device
        self.kept: dict[Hashable, list[torch.Tensor]] = {}
        self.bytes_left = MOST_BYTES

    def get(self, key: Hashable, compute: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
        if key not in self.kept:
            tensors = compute()
            self.bytes_left -= sum(tensor.nbytes for tensor in tensors)
            self.kept[key] = tensors if self.bytes_left >= 0 else [tensor.cpu() for tensor in tensors]
        return [tensor.to(self.device) for tensor in self.kept[key]]

    def of_call(
        self,
        call: Call,
        key: Callable[[Window | None], Hashable],
        compute: Callable[[Window | None], list[torch.Tensor]],
    ) -> list[torch.Tensor]:
        """Those of the windows of a call, one behind the other. ``key``: windows of one key have the same."""
        windows = [self.get(key(window), partial(compute, window)) for window in call.each_window()]
        return windows[0] if len(windows) == 1 else [torch.cat(tensors) for tensors in zip(*windows, strict=True)]
