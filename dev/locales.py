"""The nodes in other languages: `python dev/locales.py` writes what ComfyUI serves, and says what there is to translate.

locales/zh.json is what translators write: every English text once, in the order of the nodes, and the same in Chinese. Texts
that are new are added with nothing behind them; those that are gone go to the end, often the old wording of new ones, and
are deleted by hand. From it come locales/zh/nodeDefs.json and main.json. docs/translating.md has the rest.
`python dev/locales.py fr` begins another language.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locales"
# Menus and a type of ComfyUI itself. Its front end translates them; words of ours would replace those, in all packs.
SHARED = {"sampling", "merging", "scheduling", "training", "FLOATS"}

Place = tuple[str, ...]  # the keys that lead to a text in the messages of ComfyUI's front end


def languages() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def english(nodes: Iterable[type]) -> dict[Place, str]:
    """Every text of the nodes that the front end looks up, by its place, in the order of the nodes."""
    from comfy_api.latest import io

    shared = SHARED | {getattr(kind, "io_type", None) for kind in vars(io).values()}
    texts = {}
    for node in nodes:
        info = node.GET_NODE_INFO_V1()
        here = ("nodeDefs", _key(info["name"]))
        texts |= {("nodeCategories", part): part for part in info["category"].split("/") if part not in shared}
        texts |= {(*here, "display_name"): info["display_name"], (*here, "description"): info["description"]}
        inputs = {
            name: entry for group in ("required", "optional") for name, entry in info["input"].get(group, {}).items()
        }
        for name, (_, options) in inputs.items():
            place = (*here, "inputs", _key(name))
            texts |= {(*place, "name"): options.get("display_name") or name, (*place, "tooltip"): options["tooltip"]}
        outputs = zip(info["output"], info["output_name"], info["output_tooltips"], strict=True)
        for number, (kind, name, tooltip) in enumerate(outputs):
            place = (*here, "outputs", str(number))
            if name != kind:
                texts[(*place, "name")] = name
            elif kind not in shared:  # an output that is called as its type is looked up there
                texts["dataTypes", _key(kind)] = kind
            texts[(*place, "tooltip")] = tooltip
    return texts


def _key(name: str) -> str:
    """A name as the front end writes it in a place, whose parts it joins with dots."""
    return name.replace(".", "_")


def table(language: str) -> dict[str, str]:
    """What translators wrote: English text -> translation. Empty for a new language."""
    file = FOLDER / f"{language}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def brought_up(written: Mapping[str, str], texts: Mapping[Place, str]) -> dict[str, str]:
    """A table with all texts in their order, empty where a translation is missing; at its end those that are gone."""
    return dict.fromkeys(texts.values(), "") | {text: written[text] for text in written if written[text]}


def served(written: Mapping[str, str], texts: Mapping[Place, str]) -> dict[str, dict]:
    """The files of a language for ComfyUI, by their names. Left out is what reads as in English."""
    tree: dict = {"nodeDefs": {}}
    for place, text in texts.items():
        if (translation := written.get(text)) and translation != text:
            branch = tree
            for part in place[:-1]:
                branch = branch.setdefault(part, {})
            branch[place[-1]] = translation
    return {"nodeDefs.json": tree.pop("nodeDefs"), "main.json": tree}


def text_of(content: Mapping) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    sys.path.insert(0, str(ROOT / "dev"))
    import hosts
    from pack import load_pack

    texts = english(load_pack(hosts.host().path, ["--cpu"]).submodule("nodes").NODES)
    for language in sys.argv[1:] or languages():
        written = brought_up(table(language), texts)
        files = {f"{language}.json": written}
        files |= {f"{language}/{name}": content for name, content in served(written, texts).items()}
        (FOLDER / language).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (FOLDER / name).write_text(text_of(content), encoding="utf-8")
        present = set(texts.values())
        missing = sum(not written[text] for text in present)
        print(
            f"{language}: {len(present)} texts, {missing} to translate, {len(written.keys() - present)} no longer used"
        )


if __name__ == "__main__":
    main()
