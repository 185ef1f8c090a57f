"""A node pack for tests: a UNet that raises in the middle of sampling."""


class RaiseInUNet:
    CATEGORY = "test"
    FUNCTION = "patch"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        model = model.clone()
        calls = []

        def attention(q, k, v, extra_options):
            calls.append(1)
            if len(calls) > 20:  # the second UNet call, behind several motion modules
                raise RuntimeError("the UNet raised")
            return q, k, v

        model.set_model_attn2_patch(attention)
        return (model,)


NODE_CLASS_MAPPINGS = {"RaiseInUNet": RaiseInUNet}
