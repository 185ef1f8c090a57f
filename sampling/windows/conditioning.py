"""Conditioning for the frames of one window."""

import copy
import logging
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...host.controlnet import clones_of, set_clones
from .schedules import Window

# ControlNet objects that find the frames of a window by themselves (Advanced-ControlNet).
FOLLOWS_WINDOWS = "sub_idxs"
KNOWS_FRAMES = "ACN_VERSION"
# Of those, objects that find the frames of several windows in one call (our SparseCtrl).
SEVERAL_WINDOWS = "follows_several_windows"
# The host's name of how many frames a model of its own (Stable Video Diffusion) takes for a clip.
FRAMES_OF_MODEL = "num_video_frames"
# The host's names of a conditioning's batches that may have an entry for each frame, and what users call them.
# (Pictures and masks for inpainting models are stretched to the clip by the host.)
PER_FRAME = {"cross_attn": "", "pooled_output": "", "mask": "'s mask"}


class WindowedControls:
    """The host's ControlNet objects for each window of one run.

    A copy shares the network with its original and holds the hint pictures of its window only. It is made in the
    middle of the run, so that all that the host's ``pre_run`` prepared is in it; what the host computes from hints
    (scaled or encoded ones, on the GPU) stays in it. Copies that neither this denoiser call nor the one before used
    are dropped: windows of the uniform schedules come back after many steps only, and would fill the memory.
    """

    def __init__(self):
        # (id of the original, window) -> the original, the copy
        self.used: dict[tuple[int, tuple[int, ...]], tuple[Any, Any]] = {}
        self.used_before = dict(self.used)
        self.told: dict[int, tuple[Any, Any]] = {}  # id -> the object, what was before it in the chain

    def next_call(self) -> None:
        """Another denoiser call begins."""
        if self.used:
            self.used_before, self.used = self.used, {}

    def for_window(self, control: Any, window: Window, frames: int):
        """``control`` (a chain of the host's ControlBase, or None) for ``window``."""
        if control is None:
            return None
        if hasattr(control, FOLLOWS_WINDOWS):
            return self._told(control, window, frames)
        key = (id(control), tuple(window))
        if key not in self.used:
            kept = self.used_before.get(key)
            if kept is None or not _same_run(*kept):
                kept = (control, self._copy(control, window, frames))
            self.used[key] = kept
        copied = self.used[key][1]
        # each time: one further down the chain may be of those that have to be told
        copied.previous_controlnet = self.for_window(control.previous_controlnet, window, frames)
        return copied

    def _told(self, control: Any, window: Window, frames: int):
        if not hasattr(control, KNOWS_FRAMES):
            control.sub_idxs, control.full_latent_length, control.context_length = window, frames, len(window)
        for clone in clones_of(control).values():
            self._told(clone, window, frames)
        _, previous = self.told.setdefault(id(control), (control, control.previous_controlnet))
        control.previous_controlnet = self.for_window(previous, window, frames)
        return control

    def restore(self) -> None:
        """Put chains that were altered back and let go of all copies, at the end of the run."""
        for control, previous in self.told.values():
            control.previous_controlnet = previous
        self.told = {}
        self.used, self.used_before = {}, {}

    def _copy(self, control, window: Window, frames: int):
        if not hasattr(control, "cond_hint_original"):
            raise ValueError(
                f"A {type(control).__name__} cannot follow context windows: it does not hold its pictures the way ComfyUI's "
                "ControlNets do. Use ComfyUI's own ControlNet nodes, or sample without context options."
            )
        copied = copy.copy(control)
        copied.cond_hint_original = _hints(control.cond_hint_original, window)
        copied.extra_concat_orig = [_hints(value, window) for value in control.extra_concat_orig]
        # the host asks for the one that shares its network with another GPU
        clones = clones_of(control)
        set_clones(copied, {device: self.for_window(clone, window, frames) for device, clone in clones.items()})
        # what was computed for other frames; a T2I-Adapter keeps its features as well
        copied.cond_hint = copied.extra_concat = None
        if hasattr(copied, "control_input"):
            copied.control_input = None
        return copied


def _same_run(control, copied) -> bool:
    """Whether the host has not prepared ``control`` anew since it was copied (a second iteration in one run).

    A control LoRA has another network then, and the old one would stay on the GPU.
    """
    return control.timestep_range is copied.timestep_range


def follows_several_windows(control: Any) -> bool:
    """Whether a chain of ControlNets can serve several windows in one UNet call."""
    while control is not None:
        if hasattr(control, FOLLOWS_WINDOWS) and not hasattr(control, SEVERAL_WINDOWS):
            return False
        control = getattr(control, "previous_controlnet", None)
    return True


def conds_of_window(conds: list, window: Window, frames: int, controls: WindowedControls) -> list:
    """``conds`` of the host's calc_cond_batch (a list of conditionings for each of cond, uncond, …) for ``window``.

    Whatever has one entry for each of the ``frames`` frames is cut; the rest serves all frames. Several windows, one behind the
    other, are one here.
    """
    return [None if cond is None else [_entry(entry, window, frames, controls) for entry in cond] for cond in conds]


def controls_of_window(conds: list, window: Window, frames: int, controls: WindowedControls) -> list:
    """``conds`` as above, of which all but the ControlNets have been cut."""
    return [
        None
        if cond is None
        else [{**entry, "control": controls.for_window(entry.get("control"), window, frames)} for entry in cond]
        for cond in conds
    ]


def uuid_in_window(value: uuid.UUID, window: Window) -> uuid.UUID:
    """The name of a cond in a window, by which caches know a call again at the next step."""
    return uuid.uuid5(value, repr(window))


def _entry(entry: dict, window: Window, frames: int, controls: WindowedControls) -> dict:
    cut = {}
    for name, value in entry.items():
        if name == "control":
            cut[name] = controls.for_window(value, window, frames)
        elif name == "uuid":
            cut[name] = uuid_in_window(value, window)
        elif isinstance(value, dict):
            cut[name] = {key: _model_cond(key, cond, window, frames) for key, cond in value.items()}
        else:
            cut[name] = _cut(value, window, frames)
    return cut


def _model_cond(name: str, cond, window: Window, frames: int):
    """One of the host's COND objects, or a tensor."""
    inner = getattr(cond, "cond", None)
    if name == FRAMES_OF_MODEL and hasattr(cond, "_copy_with"):
        return cond._copy_with(len(window))
    if isinstance(inner, torch.Tensor) and inner.shape[:1] == (frames,):
        return cond._copy_with(inner[window])
    return _cut(cond, window, frames)


def _cut(value, window: Window, frames: int):
    if isinstance(value, torch.Tensor) and value.shape[:1] == (frames,):
        return value[window]
    return value


def _hints(pictures: torch.Tensor | None, window: Window) -> torch.Tensor | None:
    """Those of a window among a ControlNet's pictures: one for all frames, or one each, used again where too few.

    The host, which knows no windows, would give the first pictures to every window.
    """
    if pictures is None or len(pictures) == 1:
        return pictures
    index = [frame % len(pictures) for frame in window]
    if index == list(range(index[0], index[0] + len(index))):
        return pictures[index[0] : index[0] + len(index)]  # no copy of pictures in full size
    return pictures[index]


def warn_about_lengths(conds: Mapping[str, list[dict]], frames: int, windowed: bool) -> None:
    """One warning for a run whose conditioning has neither one entry nor one for each of the ``frames`` frames.

    ``conds`` are a guider's, by name (positive, negative, …), as the host gives them to outer_sample. ``windowed``:
    whether the clip is cut into context windows.
    """
    if sentences := list(dict.fromkeys(_wrong_lengths(conds, frames, windowed))):
        logging.warning("[AnimateDiff] %s", " ".join(sentences))


def _wrong_lengths(conds: Mapping[str, list[dict]], frames: int, windowed: bool) -> Iterator[str]:
    for name, entries in conds.items():
        for entry in entries or ():
            for key, what in PER_FRAME.items():
                count = _length(entry.get(key), single_ndim=2 if key == "mask" else 0)
                if count not in (1, frames):
                    yield (
                        f"The {name} conditioning{what} has {count} entries, but the clip has {frames} frames: "
                        f"{_what_happens(count, frames, windowed)} Give it {frames} entries (in a prompt schedule set "
                        "max_length), or one for all frames."
                    )
            for count in _hint_lengths(entry.get("control")):
                if count not in (1, frames):
                    yield (
                        f"The ControlNet of the {name} conditioning has {count} pictures, but the clip has {frames} "
                        f"frames: {_what_happens(count, frames, windowed=False)} Connect {frames} pictures, or one for "
                        "all frames."
                    )


def _what_happens(count: int, frames: int, windowed: bool) -> str:
    if windowed:
        return "every context window begins with the first entry, so frames get entries that are not theirs."
    if count < frames:
        return f"from frame {count} on (counted from 0) they are used again from the first."
    return f"the last {count - frames} are not used."


def _length(value, single_ndim: int = 0) -> int:
    """Entries of a batch; 1 for what is no batch."""
    return len(value) if isinstance(value, torch.Tensor) and value.ndim > single_ndim else 1


def _hint_lengths(control) -> Iterator[int]:
    while control is not None:
        # those of Advanced-ControlNet have rules of their own
        if not hasattr(control, FOLLOWS_WINDOWS):
            yield _length(getattr(control, "cond_hint_original", None))
        control = getattr(control, "previous_controlnet", None)
