"""Lines of text that nodes show of themselves, for reading after the run."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest


class Server:
    """What a note asks of a server whose prompts are ``running``."""

    def __init__(self, *running: str):
        self.running, self.shown, self.loop = list(running), [], asyncio.get_running_loop()
        self.prompt_queue = SimpleNamespace(get_current_queue_volatile=self.queue)

    def queue(self):
        return [(0, prompt_id, {}, {}, []) for prompt_id in self.running], []

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.shown.append((node_id, text))


@pytest.fixture
def progress(pack, monkeypatch):
    module = pack.submodule("host.progress")
    monkeypatch.setattr(module, "_noted", {})
    return module


def noted(progress, monkeypatch, *texts: str) -> list[tuple[str, str]]:
    """What a server is sent while node 7 leaves ``texts`` in a prompt, and when that has ended; "ended" stands between."""
    from comfy_execution.utils import CurrentNodeContext

    async def run() -> list:
        server = Server("another", "prompt")
        monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
        with CurrentNodeContext("prompt", "7"):
            for text in texts:
                progress.note(text)
        await asyncio.sleep(0.3)
        server.shown.append("ended")
        server.running.remove("prompt")
        await asyncio.sleep(0.3)
        return server.shown

    return asyncio.run(run())


def test_a_note_is_shown_again_when_its_prompt_has_ended(progress, monkeypatch):
    """Front end 1.58 takes the texts of all nodes away at the end of a prompt."""
    assert noted(progress, monkeypatch, "one frame") == [("7", "one frame"), "ended", ("7", "one frame")]


def test_a_note_that_was_taken_away_does_not_come_back(progress, monkeypatch):
    assert noted(progress, monkeypatch, "one frame", "") == [("7", "one frame"), ("7", " "), "ended"]


def test_of_two_notes_the_last_one_stays(progress, monkeypatch):
    shown = noted(progress, monkeypatch, "one frame", "two frames")
    assert shown[:2] == [("7", "one frame"), ("7", "two frames")]
    assert set(shown[3:]) == {("7", "two frames")}
