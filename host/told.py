"""Errors of ours as ComfyUI shows them."""


class Told:
    """Base of all errors of ours that users may see, beside ValueError and its like: their names stand alone there.

    ComfyUI puts the path of the module in front of an error's class, unless that is a built-in: users would read the folder
    that the pack is in, twice, above the advice.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.__module__ = "builtins"
