"""Node schemas, with what a release does not know yet left out."""

import inspect

from comfy_api.latest import io

_KNOWN = inspect.signature(io.Schema).parameters


def schema(**fields) -> io.Schema:
    """``io.Schema(**fields)``; search aliases, which 0.3.75 has not, are dropped there."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _KNOWN})
