"""The only place that touches ComfyUI internals whose shape differs between releases."""
