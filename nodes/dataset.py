"""From a folder of videos to the clips and captions that training takes."""

from comfy_api.latest import io, ui

from ..host import folders
from ..host import vae as host_vae
from ..host.schema import schema
from ..training.dataset.cache import Cache
from ..training.dataset.files import scan
from ..training.dataset.plan import ClipSettings
from ..training.dataset.prepare import conditionings, prepare, report, survey, tell
from ..training.dataset.sheet import contact_sheet
from . import sockets
from .base import Node
from .training import CATEGORY
from .values import at_least, at_most

CROPS = ("center", "buckets")
CHANNELS = 4  # of Stable Diffusion's latents
LARGEST_SIDE = 4096
MOST_FRAMES = 1024


class VideoFolderToClips(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffVideoFolderToClips",
            display_name="Video Folder to Clips",
            category=CATEGORY,
            description="Makes training clips of all videos below a folder, with the captions beside them. What was made is kept, so the "
            "next start is at once.",
            search_aliases=["dataset", "load videos from folder", "training clips", "captions", "kohya"],
            inputs=[
                sockets.OpenCombo(
                    "folder",
                    options=folders.input_folders(),
                    tooltip="A folder in ComfyUI's input folder; videos in folders inside it count too. The caption of walk.mp4 is in "
                    "walk.txt. Videos in a folder 10_name are seen ten times as often.",
                ),
                io.Vae.Input("vae", tooltip="That of the checkpoint to train for."),
                io.Clip.Input("clip", tooltip="That of the checkpoint to train for."),
                io.Int.Input(
                    "width",
                    default=256,
                    min=64,
                    max=LARGEST_SIDE,
                    step=8,
                    tooltip="Width of the clips in pixels. 256 trains motion in little memory; 512 is the size of SD1.5.",
                ),
                io.Int.Input(
                    "height",
                    default=256,
                    min=64,
                    max=LARGEST_SIDE,
                    step=8,
                    tooltip="Height of the clips in pixels. 256 trains motion in little memory; 512 is the size of SD1.5.",
                ),
                io.Combo.Input(
                    "crop",
                    options=list(CROPS),
                    default=CROPS[0],
                    tooltip="center: all clips get this size, cut out of the middle. buckets: each video gets the shape nearest to "
                    "its own, with about as many pixels; a training batch is then drawn from one shape.",
                ),
                io.Int.Input(
                    "frames",
                    default=16,
                    min=1,
                    max=MOST_FRAMES,
                    tooltip="Frames of a clip. Of clips longer than its own frames, training takes a random stretch.",
                ),
                io.Float.Input(
                    "frame_rate",
                    default=30.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Every video is taken at so many frames per second, so that motion is as fast as it was, however long the "
                    "file. 0: at its own.",
                ),
                io.Int.Input(
                    "stride",
                    default=4,
                    min=1,
                    max=240,
                    tooltip="Every so many of these is a frame of the clip. AnimateDiff was trained at 4: of 30, 7.5 are left.",
                ),
                io.Int.Input(
                    "clips_per_video",
                    default=1,
                    min=0,
                    max=10_000,
                    tooltip="Most clips of one video, spread evenly over it. 0: as many as fit, one behind the other.",
                ),
                io.Boolean.Input(
                    "split_at_cuts",
                    default=False,
                    tooltip="No clip goes across a cut. Needs PySceneDetect: pip install scenedetect-headless.",
                ),
                io.String.Input(
                    "default_caption",
                    default="",
                    multiline=True,
                    tooltip="For videos without a caption, or an empty one.",
                ),
            ],
            outputs=[
                io.Latent.Output("latents", is_output_list=True, tooltip="For latents of the training nodes."),
                io.Conditioning.Output("positive", is_output_list=True, tooltip="The captions, one for each clip."),
                io.Conditioning.Output("negative", tooltip="The empty text."),
                io.Image.Output(
                    "contact_sheet", tooltip="A few frames of each clip with its caption: 16 clips on a page."
                ),
                io.String.Output(
                    "summary", tooltip="How many clips of which size there are, and what was skipped and why."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder):
        # the host would refuse folders that the list does not show; running the node says what is wrong with one
        return True

    @classmethod
    def fingerprint_inputs(cls, folder=None, default_caption=None, **_):
        try:
            return scan(folder or "", default_caption or "").fingerprint
        except ValueError:
            return None  # running the node says what is wrong

    @classmethod
    def run(
        cls,
        folder: str,
        vae,
        clip,
        width: int,
        height: int,
        crop: str,
        frames: int,
        frame_rate: float,
        stride: int,
        clips_per_video: int,
        split_at_cuts: bool,
        default_caption: str,
    ) -> io.NodeOutput:
        for name, value in (("width", width), ("height", height)):
            at_least(name, value, 64)
            at_most(name, value, LARGEST_SIDE, "no video model is trained on larger pictures")
        at_most("frames", frames, MOST_FRAMES, "no motion model takes more")
        at_least("frame_rate", frame_rate, 0)
        settings = ClipSettings(
            width, height, crop == "buckets", frames, frame_rate, stride, clips_per_video, split_at_cuts
        )
        host_vae.check(vae, CHANNELS, "Video Folder to Clips")
        cache = Cache()
        found = survey(scan(folder, default_caption), settings, cache)
        tell(found)
        dataset = prepare(found, vae, cache)
        clips = dataset.repeated()
        texts = [one.clip.file.caption for one in clips]
        encoded = conditionings(["", *texts], clip, cache)
        latents = {id(one): {"samples": one.latents} for one in dataset.clips}
        told = report(found, dataset, cache)
        return io.NodeOutput(
            [latents[id(one)] for one in clips],
            [encoded[text] for text in texts],
            encoded[""],
            contact_sheet(dataset.clips),
            told,
            ui=ui.PreviewText(told),
        )


NODES = [VideoFolderToClips]
