"""How many windows of a denoiser call go through the UNet together, as one batch.

They share the reading of the weights, and fill a GPU that one small window leaves idle. Each stays a clip of its own, so the
numbers are those of windows one by one, up to rounding.
"""

import logging
from collections.abc import Iterator, Sequence

from ...host.memory import fits
from ..feature import Call, Run
from ..run import features_of
from .conditioning import FRAMES_OF_MODEL, follows_several_windows
from .context import Contexts
from .fuse import depends_on_chance
from .other_packs import skips_calls
from .schedules import Window

AUTOMATIC = 0  # as many as fit into the memory that is free


def one_by_one(run: Run, contexts: Contexts) -> str | None:
    """What needs each window in a UNet call of its own, in words; None if nothing does."""
    return next(_reasons(run, contexts), None)


def _reasons(run: Run, contexts: Contexts) -> Iterator[str]:
    yield from (feature.one_window_each for feature in features_of(run.patcher) if feature.one_window_each)
    if skips_calls(run):
        yield "EasyCache"
    if any(context.views is not None and depends_on_chance(context.views.fuse) for context in contexts):
        yield "the fuse method of the views"  # each window draws its own numbers
    if not all(
        follows_several_windows(cond.get("control")) for of_name in run.guider.conds.values() for cond in of_name
    ):
        yield "a ControlNet that follows windows by itself"


def tell(run: Run, contexts: Contexts) -> None:
    """One line in the log where the user asks for several windows at once, and something does not let them."""
    reason = one_by_one(run, contexts)
    if reason is not None and any(context.at_once != 1 for context in contexts):
        logging.info("[AnimateDiff] Context windows go through the UNet one by one, as %s needs them so.", reason)


def windows_at_once(asked: int, call: Call, windows: Sequence[Window]) -> int:
    """How many of ``windows`` to evaluate together in ``call``, which is for the whole clip.

    AUTOMATIC takes no more than leave room for all conds of the call beside each other, as the host puts them together.
    """
    entries = [entry for cond in call.conds for entry in cond or ()]
    if any(FRAMES_OF_MODEL in entry.get("model_conds", ()) for entry in entries):
        return 1  # a model that counts frames itself
    if asked != AUTOMATIC:
        return asked
    rows = max(map(len, windows)) * len(entries)
    most = len(windows)
    while most > 1 and not fits(call.run.patcher, (most * rows, *call.x.shape[1:]), call.x.device):
        most -= 1
    return most
