"""Errors in the texts that users write (schedules of prompts, values and strengths) point at the character."""

from ..host.told import Told

BEFORE, BEHIND = 60, 40  # how much of a long line an error shows
LONGEST_QUOTE = 40  # characters of what a user wrote, where a message repeats it
CUT = "…"


class TextError(Told, ValueError):
    """``text``, the input ``name``, goes wrong at ``index``, where ``expected`` belongs; ``hint`` says what to write."""

    def __init__(self, name: str, text: str, index: int, expected: str, hint: str):
        line, column = place(text, index)
        found = f"'{text[index]}'" if text[index:].strip() else "the end of the text"
        shown, caret = _excerpt(text.split("\n")[line - 1] if text.strip() else "", column - 1)
        super().__init__(
            f"{name}, line {line}, character {column}: expected {expected}, found {found}.\n"
            f"{shown}\n{' ' * caret}^\n{hint}"
        )


def place(text: str, index: int) -> tuple[int, int]:
    """Line and character of an index, both counted from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def cut(written: str, most: int = LONGEST_QUOTE) -> str:
    """``written``, or the beginning of it."""
    return written if len(written) <= most else written[: most - 1] + CUT


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """The part of ``line`` around ``column``, and where in that part it is. Tabs become blanks, to keep columns."""
    shown, caret = line.replace("\t", " ").rstrip("\r")[: column + BEHIND], column
    if column + BEHIND < len(line):
        shown += CUT
    if column > BEFORE:
        start = column - BEFORE
        shown, caret = CUT + shown[start:], BEFORE + len(CUT)
    return shown, caret
