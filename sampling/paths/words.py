"""Where in a prompt the words stand that objects are called by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .keys import PathError
from .path import MotionPath

CHUNK = 77  # tokens of CLIP; longer prompts are several such chunks


@dataclass(frozen=True)
class Words:
    """Of each object the places of its word among the ``tokens`` of the prompt."""

    places: tuple[frozenset[int], ...]
    tokens: int = CHUNK

    @classmethod
    def of_all(cls, objects: int) -> Words:
        """For objects that are the whole prompt: every token but the first, which stands for no word."""
        return cls((frozenset(range(1, CHUNK)),) * objects)

    def among(self, count: int) -> torch.Tensor | None:
        """1 for the tokens of each object, else 0: ``(count, objects)``. None if ``count`` is no multiple of the prompt's.

        The host repeats prompts of different lengths until they are of one.
        """
        if count % self.tokens:
            return None
        marks = torch.tensor([[float(i in places) for places in self.places] for i in range(self.tokens)])
        return marks.repeat(count // self.tokens, 1)


def words_of(path: MotionPath, clip: Any, prompt: str) -> Words:
    """Find the word of each object in ``prompt`` as the host's ``clip`` reads it; no word: all of the prompt's.

    Raises PathError for words that are not in the prompt, or without a ``clip`` (None).
    """
    words = [one.word for one in path.objects]
    if clip is None:
        if named := [word for word in words if word]:
            raise PathError(
                f"The path is that of '{named[0]}', but Follow Path knows no prompt to find this word in. Connect clip, and write "
                "the positive prompt into prompt; or leave the word of the path empty."
            )
        return Words.of_all(len(words))
    special = set(_tokens(clip, ""))
    tokens = _tokens(clip, prompt)
    written = frozenset(i for i, token in enumerate(tokens) if token not in special)
    places = []
    for word in words:
        found = _places([token for token in _tokens(clip, word) if token not in special], tokens) if word else written
        if word and not found:
            raise PathError(
                f"The path is that of '{word}', which does not stand in the prompt '{prompt}' of Follow Path. Write the word into "
                "the path as the prompt has it, or the positive prompt into prompt."
            )
        places.append(found)
    return Words(tuple(places), len(tokens))


def _places(word: list, tokens: list) -> frozenset[int]:
    """Where ``word`` stands in ``tokens``: the places of all its tokens, wherever they follow each other."""
    length = len(word)
    starts = [i for i in range(len(tokens)) if length and tokens[i : i + length] == word]
    return frozenset(place for start in starts for place in range(start, start + length))


def _tokens(clip: Any, text: str) -> list:
    """The ids of the tokens, all chunks in a row; those of the first of the checkpoint's text encoders."""
    chunks = next(iter(clip.tokenize(text).values()))
    return [entry[0] if isinstance(entry[0], int) else id(entry[0]) for chunk in chunks for entry in chunk]
