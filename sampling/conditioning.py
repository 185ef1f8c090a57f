"""Conditioning for the frames of one window."""

import copy

import torch

from .windows import Window

# ControlNet objects that find the frames of a window by themselves (Advanced-ControlNet).
FOLLOWS_WINDOWS = "sub_idxs"
KNOWS_FRAMES = "ACN_VERSION"


class WindowedControls:
    """The host's ControlNet objects for each window, made once per run.

    A copy shares the network with its original and holds the hint pictures of its window only; it keeps what the host
    computes from them (scaled or encoded hints), so that this is done once per window and not at each step.
    """

    def __init__(self):
        self.copies: dict[tuple[int, tuple[int, ...]], object] = {}
        self.told: dict[int, tuple[object, object]] = {}  # id -> the object, what was before it in the chain

    def of(self, control, window: Window, frames: int):
        """``control`` (a chain of the host's ControlBase, or None) for ``window``."""
        if control is None:
            return None
        if hasattr(control, FOLLOWS_WINDOWS):
            return self._told(control, window, frames)
        key = (id(control), tuple(window))
        if key not in self.copies:
            self.copies[key] = self._copy(control, window, frames)
        return self.copies[key]

    def _told(self, control, window: Window, frames: int):
        if not hasattr(control, KNOWS_FRAMES):
            control.sub_idxs, control.full_latent_length, control.context_length = window, frames, len(window)
        _, previous = self.told.setdefault(id(control), (control, control.previous_controlnet))
        control.previous_controlnet = self.of(previous, window, frames)
        return control

    def restore(self) -> None:
        """Put chains that were altered back, at the end of the run."""
        for control, previous in self.told.values():
            control.previous_controlnet = previous

    def _copy(self, control, window: Window, frames: int):
        copied = copy.copy(control)
        copied.previous_controlnet = self.of(control.previous_controlnet, window, frames)
        copied.cond_hint_original = _cut(control.cond_hint_original, window, frames)
        copied.extra_concat_orig = [_cut(value, window, frames) for value in control.extra_concat_orig]
        # what was computed for other frames; a T2I-Adapter keeps its features as well
        copied.cond_hint = copied.extra_concat = None
        if hasattr(copied, "control_input"):
            copied.control_input = None
        return copied


def conds_of_window(conds: list, window: Window, frames: int, controls: WindowedControls) -> list:
    """``conds`` of the host's calc_cond_batch (a list of conditionings for each of cond, uncond, …) for ``window``.

    Whatever has one entry for each of the ``frames`` frames is cut; the rest serves all frames.
    """
    return [None if cond is None else [_entry(entry, window, frames, controls) for entry in cond] for cond in conds]


def _entry(entry: dict, window: Window, frames: int, controls: WindowedControls) -> dict:
    cut = {}
    for name, value in entry.items():
        if name == "control":
            cut[name] = controls.of(value, window, frames)
        elif isinstance(value, dict):
            cut[name] = {key: _model_cond(key, cond, window, frames) for key, cond in value.items()}
        else:
            cut[name] = _cut(value, window, frames)
    return cut


def _model_cond(name: str, cond, window: Window, frames: int):
    """One of the host's COND objects, or a tensor."""
    inner = getattr(cond, "cond", None)
    if name == "num_video_frames":
        return cond._copy_with(len(window))
    if isinstance(inner, torch.Tensor) and inner.shape[:1] == (frames,):
        return cond._copy_with(inner[window])
    return _cut(cond, window, frames)


def _cut(value, window: Window, frames: int):
    if isinstance(value, torch.Tensor) and value.shape[:1] == (frames,):
        return value[window]
    return value
