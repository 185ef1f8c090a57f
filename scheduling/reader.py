"""The scanner of all texts that users write: a list of entries, which braces may surround.

What an entry looks like is the business of those who read one (grammar.py, strengths.py); what stands between entries is
a Style. Reading takes time in proportion to the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .text_error import TextError, place


@dataclass(frozen=True)
class Style:
    """What stands between the entries of a text. ``expected`` names a separator in errors, ``hint`` shows a whole text."""

    before: re.Pattern[str]  # the first entry
    blank: re.Pattern[str]  # between the parts of an entry, and behind it
    separator: re.Pattern[str]
    expected: str
    hint: str


class Reader:
    """A text and a place in it. ``end`` is where the entries end, without the braces around them."""

    def __init__(self, name: str, text: str, style: Style):
        self.name, self.text, self.style = name, text, style
        self.end = len(text.rstrip())
        before = style.before.match(text)
        self.at = min(before.end() if before else 0, self.end)
        opened = self.at
        if self.take("{"):
            if self.at == self.end or text[self.end - 1] != "}":
                line, character = place(text, opened)
                expected = f"'}}' at the end, for the '{{' in line {line}, character {character}"
                raise TextError(name, text, self.end, expected, style.hint)
            self.end -= 1
        self.match(style.before)

    @property
    def over(self) -> bool:
        return self.at >= self.end

    def entries(self) -> Iterator[int]:
        """Where each entry begins; there is at least one. Who asks for the next has stepped over the one before.

        A separator may follow the last one.
        """
        while True:
            yield self.at
            self.skip_blank()
            if not self.over and not self.match(self.style.separator):
                raise self.no_brace() if self.text[self.at] == "}" else self.error(self.style.expected)
            if self.over:
                return

    def skip_blank(self) -> None:
        self.match(self.style.blank)

    def take(self, character: str) -> bool:
        """Step over ``character``, if it is next."""
        found = not self.over and self.text[self.at] == character
        self.at += found
        return found

    def match(self, pattern: re.Pattern[str]) -> str:
        """Step over what ``pattern`` matches; empty if it is not next."""
        match = pattern.match(self.text, self.at, self.end)
        self.at += len(match[0]) if match else 0
        return match[0] if match else ""

    def error(self, expected: str, at: int | None = None) -> TextError:
        at = self.at if at is None else at
        # at a closing brace, or blanks before it, the text is over as far as its writer is concerned
        text = self.text if at < self.end else self.text[: self.end]
        return TextError(self.name, text, at, expected, self.style.hint)

    def no_brace(self, at: int | None = None) -> TextError:
        """For a '}' at the place."""
        return self.error("the end of the text, or a '{' at the beginning of it", at)
