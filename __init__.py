"""ComfyUI-AnimateDiff-Next: animation with Stable Diffusion inside ComfyUI."""

from comfy_api.latest import ComfyExtension

from .host import folders
from .nodes import STARTUP, served

WEB_DIRECTORY = "./web"  # help pages, in web/docs

with STARTUP.part("folders for motion models and MotionLoRAs"):
    folders.register()
with STARTUP.part("the SparseCtrl of Advanced-ControlNet"):
    from .motion_models.adapters import sparse_control

    sparse_control.register()


class AnimateDiffExtension(ComfyExtension):
    async def get_node_list(self):
        return served()


async def comfy_entrypoint():
    return AnimateDiffExtension()
