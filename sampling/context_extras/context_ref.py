"""ContextRef: later windows of a step look at earlier ones, so that all of them show the same things.

What looks into the UNet, ``context_ref_in_run.py``, is imported when there is a run: these settings go over sockets, and so
are known to every node, on hosts too that lack what a run needs.
"""

from dataclasses import dataclass

from ..feature import Run
from ..keyframes import from_the_start
from ..strength.multival import Multival
from .extra import Extra, InPass
from .modes import ALL_AT_FIRST, Mode


@dataclass(frozen=True)
class Tune:
    """How self-attention (``attn``) and the statistics of blocks (``adain``) take part.

    ``style_fidelity``: how much of the negative prediction goes without. ``ref_weight``: in how many layers, 0 to 1.
    ``strength`` multiplies that of the node.
    """

    attn_style_fidelity: float = 1.0
    attn_ref_weight: float = 1.0
    attn_strength: float = 1.0
    adain_style_fidelity: float = 0.0
    adain_ref_weight: float = 0.0
    adain_strength: float = 0.0


@dataclass(frozen=True, eq=False)
class RefKeyframe:
    """From ``start_percent`` of the sampling schedule on, these count.

    ``mult`` and ``mult_multival`` multiply the strength, ``mode`` and ``tune`` replace those of the node. What is None is
    that of the keyframe before, or the node's without ``inherit_missing``.
    """

    mult: float = 1.0
    mult_multival: Multival | None = None
    mode: Mode | None = None
    tune: Tune | None = None
    start_percent: float = 0.0
    guarantee_steps: int = 1
    inherit_missing: bool = True


@dataclass(frozen=True, eq=False)
class ContextRef(Extra):
    """Acts between two percents of the sampling schedule."""

    start_percent: float = 0.0
    end_percent: float = 0.25
    strength: Multival | None = None
    mode: Mode = ALL_AT_FIRST
    tune: Tune = Tune()
    keyframes: tuple[RefKeyframe, ...] = ()

    def check(self, run: Run) -> None:
        from .context_ref_in_run import check

        check(run)

    def in_pass(self, run: Run) -> InPass:
        from .context_ref_in_run import begin

        return begin(self, from_the_start(self.keyframes, RefKeyframe()), run)
