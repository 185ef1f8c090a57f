"""Which files a path that a user writes may mean: those below ComfyUI's folders, or any if whoever starts ComfyUI allows it.

Whoever may queue a prompt may not read the machine: what a path outside names, and whether it exists, is not looked at.
"""

import os
import re

import folder_paths

from .told import Told

# In the environment of ComfyUI, "1" allows paths outside its folders.
PERMISSION = "ANIMATEDIFF_ALLOW_ANY_PATH"
# \\server\share and what Windows makes of names of devices. Looking at such a path would send the user's name to the server.
NETWORK_OR_DEVICE = re.compile(r"^[\\/]{2}")


class PathNotAllowed(Told, ValueError):
    """A path that is not looked at; the message says what is allowed."""


def allowed_path(path: str, name: str) -> str:
    """The file that ``path``, the value of the input ``name``, means: with links followed. Raises PathNotAllowed.

    Nothing outside the allowed folders is touched; that a file exists is not checked.
    """
    return _resolved(
        path, name, _folders(), "ComfyUI's folders (input, output, temp, models, and the folder of ComfyUI itself)"
    )


def path_in_input(path: str, name: str) -> str:
    """What ``path``, the value of the input ``name``, means in the host's input folder; the same else as ``allowed_path``."""
    folder = os.path.abspath(folder_paths.get_input_directory())
    # the input folder itself is none: everything that was ever uploaded is in there
    return _resolved(os.path.join(folder, path), name, [folder], "ComfyUI's input folder")


def _resolved(path: str, name: str, folders: list[str], where: str) -> str:
    if "\0" in path:
        raise PathNotAllowed(f"{name} holds a character that no path has. Write a path below {where}.")
    absolute = os.path.abspath(path)
    if NETWORK_OR_DEVICE.match(path) or NETWORK_OR_DEVICE.match(absolute):
        raise PathNotAllowed(
            f"{name} begins with two slashes, as the paths of other machines and of devices do: these are never opened. Copy the "
            "file into ComfyUI's input folder and write its path there."
        )
    if os.environ.get(PERMISSION) == "1":
        return os.path.realpath(absolute)
    # twice: first without a look at the path, then with links followed
    if _below(absolute, folders):
        resolved = os.path.realpath(absolute)
        if _below(resolved, [os.path.realpath(folder) for folder in folders]):
            return resolved
    raise PathNotAllowed(
        f"{name} is not below {where}, so it was not looked at. Copy the file into the input folder and write its path there; or "
        f"start ComfyUI with the environment variable {PERMISSION}=1, which lets everyone who can queue prompts read files of this "
        "kind anywhere on the machine."
    )


def _folders() -> list[str]:
    return [
        os.path.abspath(folder)
        for folder in (
            folder_paths.get_input_directory(),
            folder_paths.get_output_directory(),
            folder_paths.get_temp_directory(),
            folder_paths.models_dir,
            folder_paths.base_path,
        )
    ]


def _below(path: str, folders: list[str]) -> bool:
    path = os.path.normcase(path)
    return any(path.startswith(os.path.join(os.path.normcase(folder), "")) for folder in folders)
