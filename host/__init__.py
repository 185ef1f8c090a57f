"""The only place that touches ComfyUI internals whose shape differs between releases, and the contract with all of them."""
