from ..host.told import Told


class LoraFileError(Told, ValueError):
    """A file that is no usable LoRA, or none for the node at hand; the message says what it is and what to do."""
