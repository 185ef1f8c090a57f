"""The nodes in other languages: nothing is missing or left over, and it says what the English says."""

import json
import re

import pytest
from animatediff_dev_pack import ROOT, import_file

locales = import_file("animatediff_dev_locales", ROOT / "dev" / "locales.py")
LANGUAGES = ["ja", "ko", "zh"]


@pytest.fixture(scope="session")
def texts(pack) -> dict[tuple[str, ...], str]:
    return locales.english(pack.submodule("nodes").NODES)


@pytest.fixture(params=LANGUAGES)
def language(request) -> str:
    return request.param


@pytest.fixture
def sentences(texts, language) -> list[tuple[str, str]]:
    """(English, translation) of tooltips and descriptions."""
    table = locales.table(language)
    found = {text for place, text in texts.items() if place[-1] in ("tooltip", "description")}
    return [(text, table.get(text, "")) for text in sorted(found)]


def test_languages():
    assert locales.languages() == LANGUAGES
    assert sorted(folder.name for folder in locales.FOLDER.iterdir() if folder.is_dir()) == LANGUAGES


def test_every_text_is_translated_and_none_is_left_over(texts, language):
    table = locales.table(language)
    missing = [text for text in dict.fromkeys(texts.values()) if not table.get(text)]
    assert not missing, "\n".join(["new or changed: run dev/locales.py, and translate", *missing])
    gone = table.keys() - set(texts.values())
    assert not gone, "\n".join(["no longer used: delete", *gone])


def test_files_are_those_that_the_program_writes(texts, language):
    table = locales.table(language)
    files = {f"{language}.json": locales.brought_up(table, texts)}
    files |= {f"{language}/{name}": content for name, content in locales.served(table, texts).items()}
    for name, content in files.items():
        assert (locales.FOLDER / name).read_text(encoding="utf-8") == locales.text_of(content), "run dev/locales.py"


def test_no_text_is_given_twice(language):
    def distinct(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    json.loads((locales.FOLDER / f"{language}.json").read_text(encoding="utf-8"), object_pairs_hook=distinct)


def test_numbers_are_kept(sentences):
    def numbers(text: str) -> set[str]:
        return set(re.findall(r"\d+(?:\.\d+)?", text))

    wrong = [f"{text}\n  {translation}" for text, translation in sentences if numbers(text) - numbers(translation)]
    assert not wrong, "\n".join(["numbers are missing:", *wrong])


def test_nodes_and_inputs_are_called_by_the_names_that_users_see(texts, language, sentences):
    """In sentences, names of our nodes (of two words and more) and of inputs (with an underscore)."""
    table = locales.table(language)
    nodes = {text for place, text in texts.items() if place[-1] == "display_name" and " " in text}
    others = {text for place, text in texts.items() if place[-1] == "name" and "_" in text}
    name = re.compile("|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in sorted(nodes | others, key=len)[::-1]))
    wrong = [
        f"{each} is {table.get(each)}: {translation}"
        for text, translation in sentences
        for each in set(name.findall(text))
        if table.get(each, "") not in translation
    ]
    assert not wrong, "\n".join(wrong)


def test_no_signs_that_the_front_end_takes_for_syntax(language):
    signs = [text for text in locales.table(language).values() if set(text) & set("{}@|")]
    assert not signs, "\n".join(signs)
