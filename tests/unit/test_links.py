"""The checker of links and names on the pages (dev/links.py)."""

from pathlib import Path

import pytest
from animatediff_dev_pack import ROOT, import_file

# Joined, because the checker reads this file as well.
PAGE, NO_PAGE = (Path("docs") / name for name in ("page.md", "nothing.md"))

links = import_file("animatediff_dev_links", Path(ROOT) / "dev" / "links.py")


def test_every_link_and_name_on_our_pages_leads_somewhere():
    assert links.problems(ROOT) == []


@pytest.fixture
def repository(tmp_path):
    """A small one with a page: `problems_of(text)`."""
    noxfile = '@nox.session(venv_backend="none")\ndef tests(session):\n    ...\n\n\n@nox.session(name="bench")\ndef bench_(session):\n'
    other = "# Other\n\n## A \u2013 b, `c`\n\n## Twice\n\n## Twice\n\n```\n# a comment\n```\n"
    files = {
        "noxfile.py": noxfile,
        "sampling/run.py": f"# what it does: {PAGE.as_posix()}\n",
        "benchmarks/clip.py": "",
        (PAGE.parent / "other.md").as_posix(): other,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def problems_of(text: str) -> list[str]:
        (tmp_path / PAGE).write_text(text, encoding="utf-8")
        return links.problems(tmp_path)

    return problems_of


GOOD = [
    "[other](other.md), [there](other.md#a--b-c), [the second](other.md#twice-1), ![code](../sampling/run.py)",
    "# Here\n\n[here](#here), [elsewhere](https://example.com/nothing.md)",
    "`sampling/run.py`, `sampling/`, `comfy/nothing.py`, `[not a link](nothing.md)`",
    "```\npython -m nox -s bench\n[not a link](nothing.md) of sampling/run.py\n```",
    "`nox -s NAME`, `python -m nox -s tests -- -k x`, `python -m nox -s bench`",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_there_is_no_problem(repository, text):
    assert repository(text) == []


BAD = [
    ("[other](nothing.md)", "the link to nothing.md: there is no such file"),
    ("![picture](nothing.png)", "the link to nothing.png: there is no such file"),
    ("[other](other.md#nothing)", "the link to other.md#nothing: that page has no such heading"),
    ("[other](other.md#a-comment)", "the link to other.md#a-comment: that page has no such heading"),
    ("[here](#nothing)", "the link to #nothing: that page has no such heading"),
    ("`sampling/nothing.py`", "sampling/nothing.py: there is no such file"),
    ("```\npython sampling/nothing.py\n```", "sampling/nothing.py: there is no such file"),
    ("`python -m nox -s nothing`", "nox -s nothing: noxfile.py has no such session"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_what_is_not_there_is_named_with_its_page(repository, text, problem):
    assert repository(text) == [f"{PAGE}: {problem}"]


def test_a_page_that_a_source_file_names_has_to_be_there(repository, tmp_path):
    (tmp_path / "sampling" / "run.py").write_text(f"# {NO_PAGE.as_posix()}", encoding="utf-8")
    (problem,) = repository("")
    assert problem.endswith(f"{NO_PAGE.as_posix()}: there is no such page")
