"""What comes from ComfyUI's own extra nodes, which have no other mark than their module."""

import re


def is_from(thing: object, module: str) -> bool:
    """Whether a function or class was defined in ``comfy_extras/MODULE.py``.

    The host loads its extra nodes by path, so that the name of their module is a path too; imported, it has dots.
    """
    return re.split(r"[./\\]", getattr(thing, "__module__", None) or "")[-1] == module
