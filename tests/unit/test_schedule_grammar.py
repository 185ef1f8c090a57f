"""Schedules as users write them: what is read, where errors point, and the values of every frame."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def grammar(pack):
    return pack.submodule("scheduling.grammar")


@pytest.fixture(scope="session")
def text_error(pack):
    return pack.submodule("scheduling.text_error").TextError


@pytest.fixture(scope="session")
def scheduled_values(pack):
    return pack.submodule("scheduling.values")


@pytest.fixture(scope="session")
def fill(grammar, scheduled_values):
    """`fill("0=0, 4=1", 6)`: the values of the frames."""
    return lambda text, frames=0: scheduled_values.values_per_frame(grammar.parse_values("values", text, frames))


@pytest.fixture(scope="session")
def places(grammar):
    """`places("0:4", 8)`: first frame, last frame and hold of an index in a schedule of so many frames."""

    def of(index: str, frames: int = 0) -> tuple[int, int, bool]:
        written = grammar.parse_prompts("prompts", f'{index} = "x"', frames).entries
        (as_json,) = grammar.parse_prompts("prompts", f'"{index}": "x"', frames).entries
        assert written == (as_json,)
        return as_json.first, as_json.last, as_json.hold

    return of


@pytest.mark.parametrize(
    "text",
    [
        '"0": "a cat", "4": "a\ndog"',
        '{"0":"a cat","4":"a\ndog"}',
        ' {\n "0" : "a cat" ,\n "4"\n:\n"a\ndog",\n}\n',
        '0 = "a cat", 4 = "a\ndog"',
        '{0="a cat",4="a\ndog",}',
        '\r\n0\t= "a cat"\r\n, 4 ="a\ndog" , ',
    ],
)
def test_prompts_are_read_in_both_styles(grammar, text):
    schedule = grammar.parse_prompts("prompts", text)
    assert schedule.entries == (grammar.Entry(0, 0, "a cat"), grammar.Entry(4, 4, "a\ndog"))
    assert schedule.frames == 5


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1.0),
        ("-.5", -0.5),
        ("1e-3", 0.001),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("(1)", 1.0),
        ("[2.5]", 2.5),
        ("{ 3 }", 3.0),
        ('"4"', 4.0),
        ("'5'", 5.0),
        ("( [ {\"'6'\"} ] )", 6.0),
    ],
)
def test_numbers_are_read_in_any_dress(grammar, written, value):
    for text in (f"0 = {written}", f'"0": {written},', f'{{"0" : {written}\n}}', f"0={written}, 1=0"):
        assert grammar.parse_values("values", text).entries[0] == grammar.Entry(0, 0, value)


def test_indices(places):
    assert places("5") == places("5", 8) == (5, 5, False)
    assert places("99", 8) == (99, 99, False)  # behind the end
    assert places("-1", 8) == (7, 7, False)
    assert places("-8", 8) == places("-9", 8) == (0, 0, False)
    assert places("0.5", 9) == places(".5", 9) == (4, 4, False)
    assert places("1.0", 8) == places("1.", 8) == (7, 7, False)
    assert places("0.999", 8) == (7, 7, False)
    assert places("0.29", 100) == (28, 28, False)  # int(0.29 * 100), as in ADE
    assert places("4:") == (4, 4, True)
    assert places("-4:", 8) == (4, 4, True)
    assert places("0.5:", 8) == (4, 4, True)


def test_ranges(places):
    assert places("0:4") == places("4:0") == (0, 3, False)
    assert places("3:3") == (3, 3, False)
    assert places("0:-5", 16) == (0, 10, False)
    assert places("2:0.5", 8) == places("0.5:2", 8) == (2, 3, False)
    assert places("-100:2", 8) == (0, 1, False)
    assert places("6:20", 8) == (6, 19, False)


def test_the_largest_index_gives_the_length(grammar):
    assert grammar.parse_values("values", "7=1, 2=3").frames == 8
    assert grammar.parse_values("values", "0:4=1").frames == 4
    assert grammar.parse_values("values", "0:4=1", 3).frames == 3


PROMPT, VALUE = "prompts", "values"


@pytest.mark.parametrize(
    ("kind", "text", "line", "character", "expected", "found"),
    [
        (PROMPT, "", 1, 1, "the index of a frame", "the end of the text"),
        (PROMPT, "{ }", 1, 3, "the index of a frame", "the end of the text"),
        (PROMPT, "a cat", 1, 1, "the index of a frame", "'a'"),
        (PROMPT, '{0 = "a"', 1, 9, "'}' at the end, for the '{' in line 1, character 1", "the end of the text"),
        (PROMPT, '\n {"0": "a",\n"4": "b"\n', 3, 9, "'}' at the end, for the '{' in line 2, character 2", "the end"),
        (VALUE, "{0 = 1,", 1, 8, "'}' at the end, for the '{' in line 1, character 1", "the end of the text"),
        (VALUE, "{", 1, 2, "'}' at the end, for the '{' in line 1, character 1", "the end of the text"),
        (PROMPT, '0 = "a", 4 = "b" }', 1, 18, "the end of the text, or a '{' at the beginning of it", "'}'"),
        (VALUE, "0 = 1, 4 = 2}", 1, 13, "the end of the text, or a '{' at the beginning of it", "'}'"),
        (PROMPT, '"0" "a"', 1, 5, "':' behind the index \"0\"", "'\"'"),
        (PROMPT, '"0: "a"', 1, 4, "'\"' behind the index \"0:", "' '"),
        (PROMPT, '0: "a"', 1, 4, "'=' behind the index 0:", "'\"'"),
        (PROMPT, "0 = a cat", 1, 5, "a prompt in double quotes behind 0 =", "'a'"),
        (PROMPT, "{0 = }", 1, 6, "a prompt in double quotes behind 0 =", "the end of the text"),
        (PROMPT, '0 = "a",\n4 = “b”', 2, 5, "a prompt in double quotes behind 4 =", "'“'"),
        (PROMPT, '0 = "a"\n4 = "b"', 2, 1, "a comma before the next entry", "'4'"),
        (PROMPT, '0 = "a",, 4 = "b"', 1, 9, "the index of a frame", "','"),
        (PROMPT, ', 0 = "a"', 1, 1, "the index of a frame", "','"),
        (PROMPT, '"0": "a", 4 = "b"', 1, 11, "an index in double quotes, as before", "'4'"),
        (PROMPT, '0 = "a",\n"4": "b"', 2, 2, "an index without quotes, as before", "'4'"),
        (
            PROMPT,
            '0 = "a",\n4 = "b',
            2,
            7,
            "'\"' at the end of the prompt that begins in line 2, character 5",
            "the end",
        ),
        (PROMPT, '0 = "a", 4 = "b, 8 = "c"', 1, 23, "a comma before the next entry", "'c'"),
        (PROMPT, '-1 = "a"', 1, 1, "an index from 0 on (decimal ones, and those from the end, need max_length)", "'-'"),
        (PROMPT, '0 = "a", 0.5: = "b"', 1, 10, "an index from 0 on", "'0'"),
        (PROMPT, '0:-1 = "a"', 1, 3, "an index from 0 on", "'-'"),
        (PROMPT, ':4 = "a"', 1, 1, "the index of a frame, such as 5, -1, 0.5, 2:6 or 4:", "':'"),
        (PROMPT, '1:2:3 = "a"', 1, 4, "one ':' in an index", "':'"),
        (PROMPT, '1:: = "a"', 1, 3, "one ':' in an index", "':'"),
        (PROMPT, '2-4 = "a"', 1, 1, "the index of a frame, such as", "'2'"),
        (PROMPT, '1:. = "a"', 1, 3, "the index of a frame, such as", "'.'"),
        (PROMPT, '1.5 = "a"', 1, 1, "a decimal index between 0.0 and 1.0", "'1'"),
        (PROMPT, '1:-0.5 = "a"', 1, 3, "a decimal index between 0.0 and 1.0", "'-'"),
        (PROMPT, '9999999 = "a"', 1, 1, "the index of a frame below 1000000", "'9'"),
        (PROMPT, f'{"9" * 5000} = "a"', 1, 1, "the index of a frame below 1000000", "'9'"),
        (VALUE, "0 = fast", 1, 5, "a number behind 0 =", "'f'"),
        (VALUE, '"0": ', 1, 5, 'a number behind "0" :', "the end of the text"),
        (VALUE, "0 = , 4 = 1", 1, 5, "a number behind 0 =", "','"),
        (VALUE, "0 = nan", 1, 5, "a number behind 0 =", "'n'"),
        (VALUE, "0 = 1e999", 1, 5, "a number up to 1.8e308, or inf, behind 0 =", "'1'"),
        (VALUE, "0 = (1", 1, 5, "a number behind 0 =", "'('"),
        (VALUE, "0 = 1\n4 = 2", 2, 1, "a comma before the next entry", "'4'"),
    ],
)
def test_an_error_points_at_the_character(grammar, text_error, kind, text, line, character, expected, found):
    parse = {PROMPT: grammar.parse_prompts, VALUE: grammar.parse_values}[kind]
    place = f"{kind}, line {line}, character {character}: expected {expected}"
    with pytest.raises(text_error, match=f"^{re.escape(place)}.*, found {re.escape(found)}") as error:
        parse(kind, text)
    _, shown, caret, hint = str(error.value).splitlines()
    if len(text) < 100:
        assert shown == (text.split("\n")[line - 1].rstrip() if text else "")[: len(shown)]
        assert caret == " " * (character - 1) + "^"
    assert {PROMPT: '"0": "a cat"', VALUE: '"0": 1.0'}[kind] in hint


def test_an_error_shows_the_part_of_a_long_line_that_it_is_about(grammar, text_error):
    text = '0 = "{}", 8 = !{}'.format("x" * 500, "z" * 500)
    with pytest.raises(text_error) as error:
        grammar.parse_prompts("prompts", text)
    _, shown, caret, _ = str(error.value).splitlines()
    assert len(shown) < 120
    assert shown[len(caret) - 1] == "!"


def test_too_long_a_clip_is_refused_in_words(grammar):
    with pytest.raises(ValueError, match="9007199254740991 frames are too many"):
        grammar.parse_values("values", "0=1", 9007199254740991)


wholes = st.integers(0, 40)
indices = st.one_of(
    wholes.map(lambda i: (str(i), i, i, False)),
    wholes.map(lambda i: (f"{i}:", i, i, True)),
    st.tuples(wholes, wholes).map(lambda ab: (f"{ab[0]}:{ab[1]}", min(ab), max(min(ab), max(ab) - 1), False)),
)
blanks = st.text(" \n\t\r", max_size=2)
prompt_texts = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(allow_nan=False)


@given(st.lists(st.tuples(indices, prompt_texts), min_size=1, max_size=6), blanks, st.booleans(), st.booleans())
def test_prompts_that_are_written_are_read_back(grammar, entries, blank, json, braces):
    style = '"{}"{b}:{b}"{}"' if json else '{}{b}={b}"{}"'
    text = f"{blank},{blank}".join(style.format(index[0], value, b=blank) for index, value in entries)
    text = f"{blank}{{{text}}}" if braces else text + blank
    found = grammar.parse_prompts("prompts", text).entries
    assert [(k.first, k.last, k.hold, k.value) for k in found] == [(*index[1:], value) for index, value in entries]


@given(st.lists(st.tuples(indices, numbers), min_size=1, max_size=6), blanks, st.booleans())
def test_values_that_are_written_are_read_back(grammar, entries, blank, json):
    style = '"{}"{b}:{b}{!r}{b}' if json else "{}{b}={b}{!r}{b}"
    text = ",".join(style.format(index[0], value, b=blank) for index, value in entries)
    found = grammar.parse_values("values", text).entries
    assert [(k.first, k.last, k.hold, k.value) for k in found] == [(*index[1:], value) for index, value in entries]


@given(st.text('0123456789.:-=",{}()x \n', max_size=40), st.sampled_from([0, 1, 5, 16]))
def test_any_text_is_a_schedule_or_an_error_of_ours(grammar, text_error, text, frames):
    for parse in (grammar.parse_prompts, grammar.parse_values):
        try:
            schedule = parse("text", text, frames)
        except text_error as error:
            assert re.match(r"text, line \d+, character \d+: expected .*, found ", str(error))
        else:
            assert schedule.frames == frames or not frames
            assert all(0 <= entry.first <= entry.last for entry in schedule.entries)


@given(st.text(max_size=30))
def test_so_is_any_unicode(grammar, text_error, text):
    for around in ("{}", "0 = {}", '"0": {}', '0 = "{}', '"{}": 1'):
        for parse in (grammar.parse_prompts, grammar.parse_values):
            try:
                assert parse("text", around.replace("{}", text)).entries
            except text_error as error:
                assert "expected" in str(error)


# Filling (docs/behaviour.md, "Scheduled texts")


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        ("0=0, 4=1", 6, [0, 0.25, 0.5, 0.75, 1, 1]),
        ("0:=0.3, 4=(1), 0.5:=2", 10, [0.3] * 4 + [1] + [2] * 5),
        ("0:4=1, 6=2", 8, [1, 1, 1, 1, 1.3333, 1.6667, 2, 2]),
        ("-4:=1, -1=2", 8, [1] * 7 + [2]),
        ("2:0.5=1,7=0", 8, [1, 1, 1, 1, 0.75, 0.5, 0.25, 0]),
        # ours
        ("2=5", 4, [5, 5, 5, 5]),
        ("0=0, 4=1", 3, [0, 0.25, 0.5]),
        ("0=0, 4=1", 0, [0, 0.25, 0.5, 0.75, 1]),
        ("8=1, 4=0", 10, [1, 1, 1, 1, 0, 0.25, 0.5, 0.75, 1, 1]),
        ("8=1, 4=0", 6, [1, 1, 1, 1, 0, 0.25]),
        ("4:=1, 2=0", 6, [1, 1, 0, 1, 1, 1]),
        ("0=1, 4=0, 2=6", 5, [1, 0.75, 6, 3, 0]),
        ("1=1, 1=2", 3, [1, 2, 2]),
        ("0=0, 2:4=2, 6=0", 8, [0, 1, 2, 2, 4 / 3, 2 / 3, 0, 0]),
        ("0:=1, 99=5", 3, [1, 1, 1]),
        ("0=inf, 1=1", 3, [math.inf, 1, 1]),
    ],
)
def test_frames_between_entries_are_filled(fill, text, frames, expected):
    assert fill(text, frames) == pytest.approx(expected, abs=1e-4)


def test_only_interpolated_numbers_are_rounded_to_float32(fill):
    assert fill("0=0.3, 1:=0.7", 4) == [0.3, 0.7, 0.7, 0.7]
    interpolated = fill("0=0.3, 4=0.7", 6)
    assert interpolated == [*torch.linspace(0.3, 0.7, 5).tolist(), interpolated[4]]
    assert interpolated[0] == 0.30000001192092896
    assert fill("0=0, 2:4=0.3", 4)[2:] == [0.30000001192092896, 0.3]


@pytest.mark.parametrize("text", ["0=0, 4=inf", "0=1e300, 4=0", "0=-3e38, 4=3e38"])
def test_there_is_no_way_to_infinity(fill, text):
    with pytest.raises(ValueError, match="Put ':' behind the index 0"):
        fill(text)


def test_whole_numbers(scheduled_values):
    assert scheduled_values.whole_numbers([0.5, 1.5, -2.6, 3.0]) == [0, 2, -3, 3]
    assert scheduled_values.whole_numbers([math.inf, -math.inf]) == [9007199254740991, -9007199254740991]


@given(st.lists(st.tuples(indices, st.floats(-10, 10)), min_size=1, max_size=6), st.integers(0, 40))
def test_every_frame_gets_a_value_between_those_written(fill, grammar, entries, frames):
    text = ", ".join(f"{index[0]} = {value!r}" for index, value in entries)
    values = fill(text, frames)
    assert len(values) == (frames or 1 + max(index[2] for index, _ in entries))
    written = [value for _, value in entries]
    assert all(min(written) - 1e-5 <= value <= max(written) + 1e-5 for value in values)


def test_indices_far_behind_the_end_are_ways_there(fill):
    assert fill("0:999999 = 1, 1 = 3, 999999 = 1", 3) == pytest.approx([1, 3, 3], abs=1e-4)
