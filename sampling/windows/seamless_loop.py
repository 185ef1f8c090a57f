"""Windows and noise for a clip whose end goes over into its beginning."""

from ..noise.initial import CONSTANT, NoiseLayer, NoiseSettings, Source
from .context import Context, ViewOptions
from .schedules import ALL_FRAMES, SEAMLESS, WindowOptions

# So that the noise all frames share is not that of the first frame.
SHARED_SEED_OFFSET = 1


def seamless_windows(length: int, overlap: int) -> Context:
    """Shared windows for which no frame is the first: those of a clip of up to ``length`` frames hold all of them.

    Of longer clips, windows run over the end into the beginning. With an overlap, every pair of neighbours, last and first
    frame too, is together in a window at each step.
    """
    windows = WindowOptions(SEAMLESS, length, overlap, closed_loop=True)
    return Context(WindowOptions(ALL_FRAMES, 0), fuse="flat", views=ViewOptions(windows, "pyramid", shared=True))


def matched_noise(shared: float) -> NoiseSettings:
    """Noise that treats all neighbours alike: each frame has its own, mixed with a part ``shared`` by all of them.

    Ge et al., "Preserve Your Own Correlation" (arXiv 2305.10474), section 4.1, mixed noise. Noise that repeats by windows
    (FreeNoise, repeated context) would put the same noise twice into the windows across the seam.
    """
    if not shared:
        return NoiseSettings()
    layer = NoiseLayer("normalized sum", Source(CONSTANT, seed_offset=SHARED_SEED_OFFSET), weight=shared)
    return NoiseSettings(layers=(layer,))
