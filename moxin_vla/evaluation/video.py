"""Small H.264 videos for reports."""

import io
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

NO_VIDEO = "Videos are left out: PyAV is not installed. Install it with: pip install av"


def can_encode() -> bool:
    """Return whether videos can be written on this machine."""
    return find_spec("av") is not None


def encode_mp4(frames: Sequence[NDArray[np.uint8]], fps: float) -> bytes:
    """Encode RGB frames (h, w, 3) as an MP4 that browsers play.

    Returns:
        The file's bytes; empty without frames, or if PyAV is not installed.
    """
    if not frames or not can_encode():
        return b""
    import av

    buffer = io.BytesIO()
    height, width = frames[0].shape[:2]
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "27", "preset": "veryfast"}
        for pixels in frames:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                )
            )
        container.mux(stream.encode())
    return buffer.getvalue()
