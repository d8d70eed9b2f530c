"""Pixels: raw and compressed image bytes become uint8 RGB arrays of the policy's size."""

import numpy as np
from numpy.typing import NDArray

from moxin_vla.core.errors import ObservationError, listed

_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def decode_raw(
    data: bytes | memoryview | NDArray[np.uint8],
    encoding: str,
    height: int,
    width: int,
    step: int,
) -> NDArray[np.uint8]:
    """Read the pixels of an uncompressed image; without a copy where the layout allows it.

    Args:
        data: Rows of `step` bytes each, top row first.
        encoding: `rgb8`, `bgr8` or `mono8`.
        height: Rows.
        width: Pixels per row.
        step: Bytes per row, padding included.

    Returns:
        RGB, shape (height, width, 3); may share memory with `data`.

    Raises:
        ObservationError: The encoding is unknown, or the sizes contradict each other.
    """
    if encoding not in _CHANNELS:
        raise ObservationError(
            f"Unknown image encoding '{encoding}'. Choose from: {listed(_CHANNELS)}"
        )
    channels = _CHANNELS[encoding]
    flat = np.frombuffer(data, dtype=np.uint8)
    if height < 1 or width < 1 or step < width * channels or flat.size < height * step:
        raise ObservationError(
            f"A {encoding} image of {width}x{height} needs a step of at least {width * channels} "
            f"and step * height bytes. Got: step {step} and {flat.size} bytes"
        )
    rows = flat[: height * step].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)  # (height, width, C)
    if encoding == "bgr8":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)


def decode_compressed(data: bytes | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG image; the format is read from the bytes themselves.

    Returns:
        RGB, shape (height, width, 3), as stored: a camera's rotation tag is ignored.

    Raises:
        ObservationError: The bytes are not an image.
    """
    import cv2

    flat = np.frombuffer(data, dtype=np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(flat, flags) if flat.size else None
    except cv2.error:  # a size that nobody can hold
        pixels = None
    if pixels is None:
        raise ObservationError(
            f"A compressed image can't be decoded. Got: {flat.size} bytes starting with "
            f"{flat[:8].tobytes()!r}. Expected: JPEG or PNG"
        )
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return `pixels` at (height, width, 3): area-averaged, or untouched if it has that size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import cv2

    shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)
