"""What travels with the hidden states of one UNet call to the motion modules."""

from dataclasses import dataclass

# The one key of ours in the host's transformer_options.
OPTIONS_KEY = "animatediff"


@dataclass(frozen=True)
class MotionInputs:
    """What one UNet call tells one motion model.

    ``scale`` multiplies the attention keys, ``effect`` what the module adds to the picture. None means 1: the
    arithmetic is skipped. An ``effect`` of 0 bypasses the module.
    """

    scale: float | None = None
    effect: float | None = None


@dataclass(frozen=True)
class MotionCall:
    """One UNet call: ``motion[i]`` is for the i-th motion model of the MODEL."""

    motion: tuple[MotionInputs, ...]
