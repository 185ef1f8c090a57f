"""Pictures of frames in rows: which window takes them, which noise they get, where they look."""

from __future__ import annotations

from typing import Any

from kit import (
    BLUE,
    DARK,
    EDGE,
    FONT,
    INK,
    PALE,
    SMALL,
    arc,
    canvas,
    cells,
    drawing,
    frame_numbers,
    hue,
    mixed,
    part,
    window_rows,
)


def steps_of_windows(schedule: str, frames: int, overlap: int, steps: int, closed: bool = False) -> Any:
    schedules = part("sampling.windows.schedules")
    options = schedules.WindowOptions(schedule, 16, overlap, closed_loop=closed)
    found = [schedules.windows(frames, options, step) for step in range(steps)]
    picture = canvas(28 + sum(18 * len(windows) + 12 for windows in found))
    frame_numbers(picture, 6, frames, 8)
    y = 28.0
    for step, windows in enumerate(found):
        picture.text((EDGE, y - 3), f"step {step + 1}" if steps > 1 else "windows", FONT, INK)
        y = window_rows(picture, y, frames, windows) + 12
    return picture


@drawing
def windows_static() -> Any:
    return steps_of_windows("standard_static", 40, 4, 1)


@drawing
def windows_batched() -> Any:
    return steps_of_windows("batched", 40, 0, 1)


@drawing
def windows_uniform() -> Any:
    return steps_of_windows("standard_uniform", 32, 4, 4)


@drawing
def windows_looped() -> Any:
    return steps_of_windows("looped_uniform", 32, 4, 4, closed=True)


@drawing
def seamless_loop() -> Any:
    schedules = part("sampling.windows.schedules")
    windows = schedules.windows(16, schedules.WindowOptions(schedules.SEAMLESS, 16), 0)
    picture = canvas(34 + 18 * len(windows))
    frame_numbers(picture, 6, 16, 5)
    for row, window in enumerate(windows):
        shades = {frame: mixed(DARK, "#d5e5ef", place / 15) for place, frame in enumerate(window)}
        cells(picture, 28 + 18 * row, 16, shades)
    for line, text in enumerate(("dark:", "where it", "begins")):
        picture.text((EDGE, 28 + 18 * line), text, SMALL, INK)
    return picture


@drawing
def noise_types() -> Any:
    initial = part("sampling.noise.initial")
    frames, window = 16, initial.NoiseWindow(8, 4)
    orders = {
        "default": list(range(frames)),
        "constant": [0] * frames,
        "repeated": [frame % window.length for frame in range(frames)],
        "FreeNoise": initial.freenoise_order(frames, window, seed=0),
    }
    picture = canvas(34 + 28 * len(orders))
    frame_numbers(picture, 6, frames, 4)
    for row, (name, order) in enumerate(orders.items()):
        y = 30 + 28 * row
        picture.text((EDGE, y + 3), name, FONT - 1, INK)
        cells(picture, y, frames, {frame: hue(source / frames) for frame, source in enumerate(order)}, 22)
    return picture


@drawing
def context_ref() -> Any:
    modes = part("sampling.context_extras.modes")
    windows = [list(range(12 * i, 12 * i + 16)) for i in range(5)]
    rows = {
        "First": modes.First(),
        "Sliding, width 2": modes.Sliding(2),
        "Sliding, width 3": modes.Sliding(3),
        "Indexes 0, 32": modes.Indexes(frozenset({0, 32})),
    }
    picture = canvas(8 + 88 * len(rows))
    for row, (name, mode) in enumerate(rows.items()):
        y = 60 + 88 * row
        picture.text((EDGE, y - 56), name, FONT, INK)
        centres = [44 + 78 * i for i in range(len(windows))]
        written = None
        for i, state in enumerate(mode.states(windows)):
            writes = state in modes.WRITES
            picture.line([(centres[i] - 34, y + 14), (centres[i] + 34, y + 14)], BLUE if writes else PALE, 28)
            frames = f"{windows[i][0]}-{windows[i][-1]}"
            picture.text((centres[i], y + 14), frames, SMALL, "#ffffff" if writes else INK, "mm")
            if state in modes.READS and written is not None:
                arc(picture, (centres[i], y - 2), (centres[written] + 6, y - 4), 22)
            written = i if writes else written
    return picture
