"""Model folders (names and order as users' extra_model_paths.yaml files know them)."""

import logging
import os

import folder_paths

from .writing import new_name

PACK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

MOTION_MODELS = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"
LORAS = "loras"
CHECKPOINTS = "checkpoints"
CONTROLNETS = "controlnet"
MOST_FOLDERS = 1000  # in a list


def register() -> None:
    """Announce our folders to the host: ``<pack>/models``, ``<ComfyUI models>/animatediff_models`` and so on.

    Folders that the user configured for the same key come first and stay. Those below the models folder are created.
    """
    for key, in_pack in ((MOTION_MODELS, "models"), (MOTION_LORAS, "motion_lora")):
        in_models = os.path.join(folder_paths.models_dir, key)
        try:
            os.makedirs(in_models, exist_ok=True)
        except OSError as error:  # models on a read-only share
            logging.warning(
                "[AnimateDiff] The folder %s could not be created (%s). Create it by hand.", in_models, error
            )
        for path in (os.path.join(PACK, in_pack), in_models):
            folder_paths.add_model_folder_path(key, path)
        paths, extensions = folder_paths.folder_names_and_paths[key]
        folder_paths.folder_names_and_paths[key] = (paths, extensions | folder_paths.supported_pt_extensions)


def list_files(key: str) -> list[str]:
    return folder_paths.get_filename_list(key)


def full_path(key: str, name: str) -> str:
    return folder_paths.get_full_path_or_raise(key, name)


def input_files(extension: str) -> list[str]:
    """The files of the host's input folder (not of folders in it) whose names end with ``extension``."""
    folder = folder_paths.get_input_directory()
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name.endswith(extension))


def input_folders() -> list[str]:
    """The folders in the host's input folder, and those in them: the paths from there, with slashes."""
    root, found = folder_paths.get_input_directory(), []
    for path, names, _ in os.walk(root):
        below = os.path.relpath(path, root).replace(os.sep, "/")
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [name if below == "." else f"{below}/{name}" for name in names]
        if below != "." or len(found) > MOST_FOLDERS:
            names.clear()
    return found


def input_file(name: str) -> str:
    """The path of a file in the host's input folder."""
    return folder_paths.get_annotated_filepath(name)


def fingerprint(path: str) -> tuple[int, int] | None:
    """Another value when a file has changed: for the host, which runs a node again then."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no name of a file
        return None  # running the node says what is wrong
    return found.st_mtime_ns, found.st_size


def new_file(key: str, prefix: str) -> str:
    """A path for a new safetensors file below the host's models folder, where ``list_files(key)`` finds it again.

    ``prefix`` and errors are those of ``writing.new_name``.
    """
    folder, name, _ = new_name(prefix, os.path.join(folder_paths.models_dir, key))
    return os.path.join(folder, f"{name}.safetensors")


def new_output(prefix: str, ending: str) -> str:
    """A path for a new file in the host's output folder; ``prefix`` and errors are those of ``writing.new_name``."""
    folder, name, _ = new_name(prefix, folder_paths.get_output_directory())
    return os.path.join(folder, f"{name}{ending}")


def result(key: str, path: str) -> dict[str, str]:
    """A file of ``new_file`` as the history names files; ``type`` is the key, under which the host lists it (/models/KEY)."""
    subfolder, name = os.path.split(os.path.relpath(path, os.path.join(folder_paths.models_dir, key)))
    return {"filename": name, "subfolder": subfolder.replace(os.sep, "/"), "type": key}


def cache_folder(name: str) -> str:
    """Where files may be kept that can be made again, below the host's folder of user files. Not created.

    The host hands out nothing over HTTP whose folder begins with two underscores.
    """
    return os.path.join(folder_paths.get_user_directory(), "__animatediff_next", name)
