"""Moving previews on a node that runs, through the host's own channel for previews.

Front ends show each preview as a still: on a canvas even of a moving picture only the beginning. So the pictures of a clip
are sent one by one, at the pace of the clip, which all of them show, and any other client as well.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from comfy_execution.utils import get_executing_context
from PIL import Image

FRAMES_PER_SECOND = 8  # as AnimateDiff's clips are mostly shown
SIZE = 256  # pixels of the longer side; the host scales, and makes a JPEG of it
# Of the time between two steps: how long frames of a clip are drawn anew.
SHARE = 0.01


class MovingPreview:
    """Plays pictures on the node ``node_id`` until it is closed. One that fails is the last, and is told in the log."""

    def __init__(self, node_id: str, size: int = SIZE):
        """``size``: pixels of the longer side."""
        self.node_id, self.size = node_id, size
        self.pictures: Sequence[Image.Image] = ()
        self.position = 0
        self.ended = threading.Event()
        self.player = threading.Thread(target=self._play, name="AnimateDiff preview", daemon=True)

    def show(self, draw: Callable[[], Sequence[Image.Image]]) -> None:
        """From now on the pictures that ``draw`` gives, over and over; the one whose turn it is at once.

        Outside of a server nothing is drawn.
        """
        with self._told():
            if self.ended.is_set() or not _state().handlers:
                return
            self.pictures = draw()
            self._send()
            if self.player.ident is None:
                self.player.start()

    def close(self) -> None:
        self.ended.set()
        if self.player.ident is not None:
            self.player.join()

    def _play(self) -> None:
        with self._told():
            while not self.ended.wait(1 / FRAMES_PER_SECOND):
                if len(self.pictures) > 1:
                    self.position += 1
                    self._send()

    def _send(self) -> None:
        """The picture whose turn it is, beside the progress that the node shows."""
        pictures = self.pictures
        picture, state = pictures[self.position % len(pictures)], _state()
        shown = state.ensure_entry(self.node_id)
        state.update_progress(self.node_id, shown["value"], shown["max"], ("JPEG", picture, self.size))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.ended.set()
            logging.warning("[AnimateDiff] A moving preview failed. The run goes on without it.", exc_info=True)


def _state():
    """The host's progress of all nodes, and who is told of it."""
    return sys.modules["comfy_execution.progress"].get_progress_state()


@contextmanager
def playing_clip(device: torch.device, latent_format) -> Iterator[Callable[[torch.Tensor], None] | None]:
    """Gives a function that takes a clip ``(frames, channels, height, width)`` in the model's scale, and plays it from then on.

    None where there is nobody to see it: outside of a node, or with ComfyUI's previews turned off. The pictures are those of
    the host's own previewer; another pack's, which may play clips itself, is left to it.
    """
    context = get_executing_context()
    draw = None if context is None else _drawer(device, latent_format)
    if context is None or draw is None:
        yield None
        return
    clip, preview = _Drawn(draw), MovingPreview(context.node_id)
    try:
        yield lambda latents: preview.show(lambda: clip.anew(latents))
    finally:
        preview.close()


def _drawer(device: torch.device, latent_format) -> Callable[[torch.Tensor], Image.Image] | None:
    """A function from the latents of one frame to its picture, as ComfyUI's settings of previews want it."""
    host = sys.modules.get("latent_preview")
    make = getattr(host, "get_previewer", None)
    previewer = make and make(device, latent_format)
    if not previewer or type(previewer).__module__ != "latent_preview":
        return None
    return previewer.decode_latent_to_preview


class _Drawn:
    """The pictures of a clip. All are drawn in the first step, and then so many in turn as fit into ``SHARE`` of a step."""

    def __init__(self, draw: Callable[[torch.Tensor], Image.Image]):
        self.draw = draw
        self.pictures: list[Image.Image] = []
        self.turn = 0
        self.behind = 0.0  # when the last ones were drawn

    def anew(self, latents: torch.Tensor) -> list[Image.Image]:
        begin = time.perf_counter()
        if not self.pictures:
            self.pictures = [self.draw(frame) for frame in latents.split(1)]
        else:
            allowed = SHARE * (begin - self.behind)
            for _ in self.pictures:
                self.pictures[self.turn] = self.draw(latents[self.turn : self.turn + 1])
                self.turn = (self.turn + 1) % len(self.pictures)
                if time.perf_counter() - begin > allowed:
                    break
        self.behind = time.perf_counter()
        return self.pictures
