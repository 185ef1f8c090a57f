"""Parts of a graph: API prompts of the host, ``{id: {"class_type": name, "inputs": {name: value or [id, output]}}}``."""

from collections.abc import Iterable

Prompt = dict[str, dict]


def linked(node: dict, prompt: Prompt) -> list[str]:
    """The nodes that ``node`` gets its inputs from."""
    links = (value for value in node["inputs"].values() if isinstance(value, list) and len(value) == 2)
    return [link[0] for link in links if isinstance(link[0], str) and link[0] in prompt]


def ahead_of(ids: Iterable[str], prompt: Prompt) -> set[str]:
    """All nodes that ``ids`` need, without themselves unless one needs another."""
    found: set[str] = set()
    waiting = [before for name in ids for before in linked(prompt[name], prompt)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += linked(prompt[name], prompt)
    return found


def behind(name: str, prompt: Prompt) -> set[str]:
    """All nodes that need ``name``."""
    return {other for other in prompt if name in ahead_of([other], prompt)}


def part_with(ids: Iterable[str], prompt: Prompt) -> Prompt:
    """``ids``, the nodes behind them, and all that these need; in the order of ``prompt``."""
    ids = set(ids)
    ends = ids.union(*(behind(name, prompt) for name in ids))
    kept = ends | ahead_of(ends, prompt)
    return {name: node for name, node in prompt.items() if name in kept}


def in_order(ids: Iterable[str], prompt: Prompt) -> list[str]:
    """Those that need none of the others first."""
    ids = sorted(ids)
    return sorted(ids, key=lambda name: len(ahead_of([name], prompt) & set(ids)))
