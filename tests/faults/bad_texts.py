"""Texts that are no schedule, no list of strengths, no path: typed into a widget, or coming over a link."""

from __future__ import annotations

from animatediff_faults_bad_inputs import Bad, bad

# What people write instead of `"0": "a cat", "16": "a dog"`.
NO_PROMPTS = [
    "",
    "   \n ",
    ",",
    "a cat, a dog",
    "0",
    '"0"',
    '"0":',
    '"0": a cat',
    '"0" "a cat"',
    '"0": "a cat" "4": "a dog"',
    '"0": "a cat", "4": "a dog',
    '{"0": "a cat", "4": "a dog"',
    '"0": "a cat"}',
    "'0': 'a cat'",
    "“0”: “a cat”",
    '0: "a cat"',
    '0 = "a cat", "4": "a dog"',
    '["a cat", "a dog"]',
    '"first": "a cat"',
    '"1:2:3": "a cat"',
    '"-1": "a cat"',
    '"0.5": "a cat"',
    '"1.5": "a cat"',
    '"99999999": "a cat"',
    f'"{"9" * 5000}": "a cat"',
    '"0": "a cat", , "4": "a dog"',
    '"0": 5',
    '"--1": "a cat"',
]
NO_VALUES = [
    "",
    "1.0",
    '"0": one',
    '"0": "1.0, "4": 2',
    '"0": nan',
    '"0": 1.0 "4": 2.0',
    "0 = 1.0; 4 = 2.0",
    '{"0": 1.0, "4": 2.0',
    '"0": [1.0, 2.0]',
    '"0": 1,5',
    '"x": 1.0',
    '"0": 1.0, "4": inf',
    '"0": 1.0, "4": 1e999',
    '"-1": 1.0',
    '"2.5": 1.0',
]
NO_STRENGTHS = [
    "1.0",
    "0.5",
    "0: ",
    "0 1.0",
    "0: full",
    "1.5: 0.3",
    "-0.5: 0.3",
    "0: 1.0 0.5: 0.3",
    "0: 1.0, 0: 0.3",
    '"0": 1.0',
    "0: nan",
    "0: 1e999",
    "0: 1.0 / 0.5: 0.3",
    ", ;",
]
NO_FRAMES = ["0.5: 1.0", "-1: 1.0", "first: 1", "99999: 1.0", "0: 1.0, 0: 2.0", "0-5: 1.0", "0: 1.0,, x"]

NO_PLACES = [
    "",
    "0.5,0.5",
    "0: 0.5",
    "0: 0.5 0.5",
    "0: 256,256",
    "-1: 0,0",
    "0: 0,0  0: 1,1",
    "0: nan,0",
    "99999: 0,0",
    "0: 1,1,0",
]

NO_MOVES = [
    "",
    "0",
    "0: 1",
    "0: 0,0,0",
    "0: 0,0,9",
    "0: 100,0",
    "0: 0,0,1,1e9",
    "0: 0,0,1,0,0",
    "0: 0,0  0: 1,0",
    "0: inf,0",
]

PROMPTS, EVEN, VALUES = "ADE_PromptScheduling", "AnimateDiffPromptScheduling", "ADE_ValueScheduling"
SCHEDULE = "AnimateDiffScheduleMotionLoRA"
POSES = "ADE_LoadCameraPosesFromPath"

SCHEDULES: list[Bad] = [
    *(bad(PROMPTS, prompts=text) for text in NO_PROMPTS),
    *(bad("AnimateDiffMotionPath", places=text) for text in NO_PLACES),
    *(bad("AnimateDiffCameraPath", moves=text) for text in NO_MOVES),
    bad("ADE_PromptSchedulingLatents", prompts='"9999999": "a cat"'),
    bad(EVEN, prompts='"0": "a cat", "4" "a dog"'),
    bad(PROMPTS, prompts=7),
    bad(PROMPTS, prompts=["a cat"]),
    bad(PROMPTS, bounded=True, prompts='"0": "a cat", "20000": "a dog"'),
    bad(PROMPTS, bounded=True, prompts=", ".join(f'"{i}": "cat {i}"' for i in range(3000))),
    bad(PROMPTS, bounded=True, prompts='"0": "a cat"' + " " * 2_000_000 + "x"),
    bad(PROMPTS, max_length=-4),
    bad(PROMPTS, bounded=True, max_length=9007199254740991),
    bad(PROMPTS, tensor_interp="cubic"),
    bad(EVEN, interpolation="smooth"),
    bad(PROMPTS, prepend_text=5),
    *(bad(VALUES, values=text) for text in NO_VALUES),
    bad(VALUES, max_length=-3),
    bad(VALUES, bounded=True, max_length=10**9),
    bad(VALUES, bounded=True, values=", ".join(f"{i} = {i}" for i in range(50_000))),
    bad("ADE_ValueSchedulingLatents", values="all 1.0"),
    bad("ADE_ValuesReplace", floats=[]),
    bad("ADE_ValuesReplace", floats="1.0"),
    bad("ADE_FloatToFloats", FLOAT="1.0, 2.0"),
    bad("ADE_FloatToFloats", FLOAT=[]),
    *(bad(SCHEDULE, strengths=text) for text in NO_STRENGTHS),
    *(bad(SCHEDULE, frame_strengths=text) for text in NO_FRAMES),
    bad(SCHEDULE, strengths=5),
    bad(SCHEDULE, bounded=True, frame_strengths=", ".join(f"{i}: 1" for i in range(9999))),
    bad(SCHEDULE, bounded=True, strengths=", ".join(f"0.{i:06}: 1" for i in range(1, 50_000))),
    bad(SCHEDULE, bounded=True, strengths=f"0.{'0' * 5000}1: 1"),
    bad(SCHEDULE, bounded=True, strengths=f"0: {'9' * 5000}"),
]
MERGE, STRENGTH = "AnimateDiffMergeMotionModels", "AnimateDiffMotionStrength"
NO_BLOCKS = [
    "sideways: 1",
    "down",
    "down: much",
    "down: 1, down: 0",
    "down_9: 1",
    "up_0__99: 1",
    "down_1_0: 1",
    "mid: nan",
]
SCHEDULES += [
    *(bad(MERGE, blocks=text) for text in NO_BLOCKS),
    bad(MERGE, bounded=True, blocks=", ".join(f"down_{i}: 1" for i in range(999))),
    bad(MERGE, bounded=True, blocks="down: 1" + " " * 2_000_000 + "x"),
    *(bad(STRENGTH, over_run=text) for text in NO_STRENGTHS if text.strip()),
    *(bad(STRENGTH, over_frames=text) for text in NO_FRAMES),
    bad(STRENGTH, interpolation="smooth"),
    bad(STRENGTH, acts_on="speed"),
    bad(
        STRENGTH, bounded=True, over_run=", ".join(f"0.{i:04}: {i % 2}" for i in range(1, 9999)), interpolation="linear"
    ),
]
FOLDER = "AnimateDiffVideoFolderToClips"
NO_FOLDERS = [
    "",
    "nowhere",
    ".",
    "/",
    "/no/such/folder",
    "clips/../..",
    "\\\\server\\share",
    "a\0b",
    ["clips"],
    "x" * 10_000,
]
PATHS: list[Bad] = [
    bad(POSES, ("file_path",), file_path=""),
    bad(POSES, ("file_path",), file_path="/no/such/folder/no_such_file.txt"),
    bad(POSES, ("file_path",), file_path="/"),
    bad(POSES, ("file_path",), file_path="\\\\server\\share\\poses.txt"),
    bad(POSES, ("file_path",), file_path="a\0b"),
    bad(POSES, ("file_path",), file_path=["a.txt"]),
    bad(POSES, ("file_path",), file_path="x" * 10_000),
    *(bad(FOLDER, ("folder",), folder=path) for path in NO_FOLDERS),
]
# Contents of a pose file: what the message must name besides the file.
GOOD_LINE = " ".join(["0.5"] * 19)
NO_POSES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "first line"),
    "title only": (b"a title\n", "first line"),
    "too few numbers": (b"title\n1 2 3\n", "Line 2"),
    "too many numbers": (f"title\n{GOOD_LINE} 1\n".encode(), "Line 2"),
    "a word": (f"title\n{GOOD_LINE}\n{GOOD_LINE.replace('0.5', 'half', 1)}\n".encode(), "Line 3"),
    "commas": (f"title\n{GOOD_LINE.replace(' ', ',')}\n".encode(), "Line 2"),
    "NaN": (f"title\n{GOOD_LINE.replace('0.5', 'nan', 1)}\n".encode(), "Line 2"),
    "infinity": (f"title\n{GOOD_LINE.replace('0.5', '1e999', 1)}\n".encode(), "Line 2"),
    "no text": (bytes(range(256)) * 8, "text"),
}
ALL: dict[str, list[Bad]] = {"texts": SCHEDULES, "paths": PATHS}
