"""Which encoder stores the images: a hardware one if it works, else h264 at its fastest."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from moxin_vla.core.errors import RecordingError, listed

AUTO, PNG = "auto", "png"
_HARDWARE = ("h264_nvenc", "h264_vaapi", "h264_qsv", "h264_videotoolbox")
_SOFTWARE = "h264"
_TRIED = ((256, 256),)  # width and height of the picture that a candidate has to encode


@dataclass(frozen=True, slots=True)
class Codec:
    """How images are stored.

    Attributes:
        name: ffmpeg's name of the encoder, or `png`.
        why: Why this one, in words.
    """

    name: str
    why: str

    @property
    def kind(self) -> str:
        """What lerobot calls it: "video" or "image"."""
        return "image" if self.name == PNG else "video"

    def encoder(self) -> Any:
        """Return lerobot's declaration of the encoder; None for PNG.

        A group of two pictures makes any row cheap to read for training.
        """
        if self.name == PNG:
            return None
        from lerobot.configs.video import RGBEncoderConfig

        preset = "ultrafast" if self.name == _SOFTWARE else None
        return RGBEncoderConfig(vcodec=self.name, g=2, crf=23, preset=preset)

    @staticmethod
    def threads(cameras: int) -> int:
        """Return encoder threads per camera: half the machine stays free for the rest."""
        return max(1, (os.cpu_count() or 1) // (2 * max(1, cameras)))


def choose_codec(wanted: str = AUTO, sizes: Collection[tuple[int, int]] = _TRIED) -> Codec:
    """Return the codec to use.

    Args:
        wanted: An encoder's name, `png`, or `auto`: the first hardware encoder that encodes a
            picture here, else software.
        sizes: Width and height of the images: hardware encoders refuse small ones.

    Raises:
        RecordingError: The encoder asked for does not work here.
    """
    if wanted == PNG:
        return Codec(PNG, "asked for; every pixel stays as it was")
    if wanted != AUTO:
        if reason := _unknown(wanted) or _trouble(wanted, sizes):
            raise RecordingError(
                f"The encoder '{wanted}' does not work here: {reason}. "
                f"Choose from: {listed((AUTO, PNG, _SOFTWARE, *_HARDWARE))}"
            )
        return Codec(wanted, "asked for")
    for name in _HARDWARE:
        if not _trouble(name, sizes):
            return Codec(name, "hardware")
    return Codec(_SOFTWARE, "software, preset ultrafast: no hardware encoder works here")


def _unknown(name: str) -> str:
    """Return why lerobot does not take an encoder, or an empty string."""
    try:
        Codec(name, "").encoder()
    except ValueError as error:
        return str(error)
    return ""


def _trouble(name: str, sizes: Collection[tuple[int, int]]) -> str:
    """Encode a picture of each size; return what went wrong, or an empty string.

    That an encoder is compiled in says nothing about whether its hardware is there.
    """
    import av
    from av.error import FFmpegError

    try:
        for width, height in sorted(set(sizes)):
            context: Any = av.CodecContext.create(name, "w")
            context.width, context.height = width, height
            context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 30)
            blank = np.zeros((height, width, 3), np.uint8)
            context.encode(av.VideoFrame.from_ndarray(blank, format="rgb24"))
            context.encode(None)
    except (FFmpegError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""
