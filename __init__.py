"""ComfyUI-AnimateDiff-Next: animation with Stable Diffusion inside ComfyUI."""

from comfy_api.latest import ComfyExtension

from .host import folders, registry
from .motion_models.adapters import sparse_control
from .nodes import NODES

folders.register()
sparse_control.register()


class AnimateDiffExtension(ComfyExtension):
    async def get_node_list(self):
        registry.warn_about_other_packs([node.GET_SCHEMA().node_id for node in NODES])
        return NODES


async def comfy_entrypoint():
    return AnimateDiffExtension()
