"""The moments of a context extra, whatever kind of windows the clip has."""

from collections.abc import Sequence

from ..feature import Call, Denoise, Predictions, Run
from ..windows.schedules import Window


class InCall:
    """An extra in one denoiser call on the whole clip. What it remembers from window to window is here, and ends with it."""

    def around_window(self, index: int, call: Call, then: Denoise) -> Predictions:
        """Around the call for window number ``index`` of the call, in the order in which they are computed."""
        return then(call)

    def blended(self, predictions: Predictions) -> Predictions:
        """``predictions``, one for each of the conds, for the whole clip: the windows have been blended."""
        return predictions

    def end(self) -> None:
        """The call is over, or was broken off."""


class InPass:
    """An extra in one pass over the sampling schedule."""

    def in_call(self, call: Call, windows: Sequence[Window], together: bool = False) -> InCall | None:
        """For the denoiser call ``call`` on the whole clip, cut into ``windows``; None where the extra does not act in it.

        ``together``: they are shared windows, so the UNet gets all frames in one call, which counts as window 0.
        """
        raise NotImplementedError


class Extra:
    """What the user asked for. Immutable."""

    def check(self, run: Run) -> None:
        """Raise, in words, before the GPU works. Asked only where the clip is cut into windows."""

    def in_pass(self, run: Run) -> InPass:
        raise NotImplementedError
