"""ComfyUI's own Context Windows node: which windows a run has, and which one a call is for."""

from typing import Any


def window_length(model_options: dict, frames: int) -> int | None:
    """How long the windows are that the host cuts a clip of ``frames`` frames into; None if it does not."""
    handler: Any = model_options.get("context_handler")
    if handler is None or handler.dim != 0 or frames <= handler.context_length:
        return None
    return handler.context_length


def frames_attending(model_options: dict, frames: int) -> int | None:
    """The same with the frame that causal_window_fix, which releases before 0.24 have not, adds to each window."""
    length = window_length(model_options, frames)
    if length is None:
        return None
    return length + bool(getattr(model_options["context_handler"], "causal_window_fix", False))


def window_of_call(transformer_options: dict, frames: int) -> list[int] | None:
    """The frames of a call of ``frames`` frames, if the host cut them out of the clip."""
    window: Any = transformer_options.get("context_window")
    if window is None:
        return None
    indices = [int(i) for i in window.index_list]
    anchor = getattr(window, "causal_anchor_index", None)
    if anchor is not None and anchor >= 0:
        indices.insert(0, anchor)
    return indices if len(indices) == frames else None
