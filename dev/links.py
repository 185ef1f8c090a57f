"""What the pages point to: `python dev/links.py` names every link that leads nowhere, and is part of `nox -s lint`.

Looked at in all .md files, without a network: relative links with their anchors; files in code marks and code blocks whose path begins
with a folder of ours, such as `sampling/run.py`; sessions of `nox -s`, and benchmarks behind `-s benchmark --`. In .py files: the pages
of docs/ that they name. dev/help and dev/training_log.md are left out: their texts become pages in web/docs and docs, which are looked at.
Only the standard library is needed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
# Made by the reader of adding-a-feature.md.
OF_THE_READER = {"sampling/print_sigmas.py", "nodes/print_sigmas.py", "tests/host/test_print_sigmas.py"}
# Texts that other files are made of, which have the links of those.
PARTS_OF_PAGES = {("dev", "help"), ("dev", "training_log.md")}

BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)")
PATH = re.compile(r"(?<![\w./\u2026-])[a-z_]+/[\w/.-]*\w/?")
SESSION = re.compile(r"nox -s (\w+)(?: -- (\w+))?")
PAGE = re.compile(r"docs/\w[\w-]*\.md")


def files(root: Path, ending: str) -> Iterator[Path]:
    """Those in hidden folders are not ours."""
    for path in sorted(root.rglob(f"*{ending}")):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") for part in parts) and parts[:2] not in PARTS_OF_PAGES:
            yield path


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in addresses, as GitHub does it: the second of a name has -1 behind it."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE):
        slug = re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target, anchor in LINK.findall(CODE.sub("", BLOCK.sub("", text))):
        file = page.parent / unquote(target) if target else page
        if not file.exists():
            yield f"the link to {target}: there is no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"the link to {target}#{anchor}: that page has no such heading"


def missing_files(root: Path, text: str) -> Iterator[str]:
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    code = "\n".join([*BLOCK.findall(text), *CODE.findall(BLOCK.sub("", text))])
    for name in sorted(set(PATH.findall(code)) - OF_THE_READER):
        if name.split("/")[0] in folders and not (root / name).exists():
            yield f"{name}: there is no such file"


def missing_sessions(root: Path, text: str) -> Iterator[str]:
    noxfile = (root / "noxfile.py").read_text(encoding="utf-8")
    # The name of the function, unless the decorator says another one.
    sessions = {
        named or of for named, of in re.findall(r'^@nox\.session\((?:.*name="(\w+)")?.*\)\ndef (\w+)', noxfile, re.M)
    }
    for session, argument in sorted(set(SESSION.findall(text))):
        if session.islower() and session not in sessions:
            yield f"nox -s {session}: noxfile.py has no such session"
        if session == "benchmark" and argument.islower() and not (root / "benchmarks" / f"{argument}.py").exists():
            yield f"nox -s benchmark -- {argument}: there is no such benchmark"


def problems(root: Path) -> list[str]:
    """Everything that points to nothing, a line each: the file, and what is wrong."""
    found = []
    for page in files(root, ".md"):
        text = page.read_text(encoding="utf-8")
        wrong = [*dead_links(page, text), *missing_files(root, text), *missing_sessions(root, text)]
        found += [f"{page.relative_to(root)}: {line}" for line in wrong]
    for source in files(root, ".py"):
        for name in sorted(set(PAGE.findall(source.read_text(encoding="utf-8")))):
            if not (root / name).is_file():
                found.append(f"{source.relative_to(root)}: {name}: there is no such page")
    return found


def main() -> None:
    found = problems(ROOT)
    for line in found:
        print(line)
    if found:
        sys.exit(f"{len(found)} links or names on the pages lead nowhere, see above.")


if __name__ == "__main__":
    main()
