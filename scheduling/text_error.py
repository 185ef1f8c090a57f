"""Errors in the small texts that users write (schedules of prompts, values and strengths) point at the character."""

BEFORE, BEHIND = 60, 40  # how much of a long line an error shows
CUT = "…"


class TextError(ValueError):
    """``text``, the input ``name``, goes wrong at ``index``, where ``expected`` belongs; ``hint`` says what to write."""

    def __init__(self, name: str, text: str, index: int, expected: str, hint: str):
        line = text.count("\n", 0, index)
        column = index - (text.rfind("\n", 0, index) + 1)
        found = f"'{text[index]}'" if text[index:].strip() else "the end of the text"
        shown, caret = _excerpt(text.split("\n")[line] if text.strip() else "", column)
        super().__init__(
            f"{name}, line {line + 1}, character {column + 1}: expected {expected}, found {found}.\n"
            f"{shown}\n{' ' * caret}^\n{hint}"
        )


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """The part of ``line`` around ``column``, and where in that part it is. Tabs become blanks, to keep columns."""
    shown, caret = line.replace("\t", " ").rstrip("\r")[: column + BEHIND], column
    if column + BEHIND < len(line):
        shown += CUT
    if column > BEFORE:
        start = column - BEFORE
        shown, caret = CUT + shown[start:], BEFORE + len(CUT)
    return shown, caret
