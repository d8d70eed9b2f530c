"""Image operations as released checkpoints were trained and evaluated with, without TensorFlow.

They follow TensorFlow's definitions in float32: `tf.image.resize` (lanczos3, antialias),
`tf.image.crop_and_resize` (bilinear) and `convert_image_dtype`. A policy that sees anything else
loses from 3 points of success to all of it (moojink/openvla-oft LIBERO.md, openvla/openvla#223).
Images are uint8 RGB of shape (h, w, 3).
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 95  # TensorFlow's default, with 4:2:0 subsampling
CROP_AREA = 0.9  # share of the image that training crops to, at random
_LOBES = 3.0

Pixels = NDArray[np.uint8]


def jpeg_round_trip(image: Pixels) -> Pixels:
    """Encode and decode as JPEG: training data was stored so."""
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    written, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert written
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def lanczos3_resize(image: Pixels, side: int) -> Pixels:
    """Resize to a square, whatever the aspect, with Lanczos-3 and antialiasing."""
    height, width = image.shape[:2]
    rows, columns = resize_weights(height, side), resize_weights(width, side)
    pixels = image.astype(np.float32)
    wide = np.tensordot(rows, pixels, axes=(1, 0))  # (side, width, 3)
    square = np.tensordot(wide, columns, axes=(1, 1)).transpose(0, 2, 1)  # (side, side, 3)
    return np.clip(np.rint(square), 0, 255).astype(np.uint8)


def bicubic_resize(image: Pixels, side: int) -> Pixels:
    """Resize to a square as Pillow does for Prismatic models: cubic, antialiased, row by row."""
    height, width = image.shape[:2]
    columns = resize_weights(width, side, "cubic")
    wide = np.tensordot(image.astype(np.float32), columns, axes=(1, 1)).transpose(0, 2, 1)
    wide = np.clip(np.rint(wide), 0, 255)  # Pillow keeps bytes between its two passes
    square = np.tensordot(resize_weights(height, side, "cubic"), wide, axes=(1, 0))
    return np.clip(np.rint(square), 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def resize_weights(source: int, target: int, kernel: str = "lanczos3") -> NDArray[np.float32]:
    """Return the weights of every source pixel in every target pixel, shape (target, source).

    Pixel centres lie at half integers; the kernel widens with the scale when shrinking; weights
    of a target pixel add up to 1, also where the kernel is cut off at the border.
    """
    scale = source / target
    widened = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    offsets = (np.arange(source) + 0.5)[None] - centres[:, None]
    shape, support = _KERNELS[kernel]
    weights = np.where(np.abs(offsets) <= support * widened, shape(offsets / widened), 0.0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sinc(x) * np.sinc(x / _LOBES)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -1/2 (IEEE TASSP 29, 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_KERNELS = {"lanczos3": (_lanczos, _LOBES), "cubic": (_cubic, 2.0)}


def centre_crop(image: Pixels) -> Pixels:
    """Crop the middle 90 % of the area and enlarge it to the former size, as evaluation does.

    Bilinear on float32 in [0, 1]; sample i of n lies at (n - 1) * offset + i * side, with
    side = sqrt(0.9) and offset = (1 - side) / 2: at 224 pixels from 5.7218 in steps of 0.948683.
    """
    height, width = image.shape[:2]
    scaled = image.astype(np.float32) * np.float32(1 / 255)
    top, bottom, down = (part[:, None] for part in crop_samples(height))
    left, right, along = (part[None, :] for part in crop_samples(width))
    upper = _between(scaled[top, left], scaled[top, right], along[..., None])
    lower = _between(scaled[bottom, left], scaled[bottom, right], along[..., None])
    values = _between(upper, lower, down[..., None]) * np.float32(255.5)
    return np.clip(values, 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def crop_samples(size: int) -> tuple[NDArray, NDArray, NDArray[np.float32]]:
    """Return the pixel before each sample of a crop, the one after, and the share between."""
    side = np.float32(math.sqrt(CROP_AREA))
    offset = (np.float32(1) - side) / np.float32(2)
    step = (offset + side - offset) * np.float32(size - 1) / np.float32(size - 1)
    at = offset * np.float32(size - 1) + np.arange(size, dtype=np.float32) * step
    before = np.floor(at)
    after = np.minimum(np.ceil(at), size - 1).astype(np.int64)
    return before.astype(np.int64), after, at - before


def _between(a: NDArray, b: NDArray, share: NDArray) -> NDArray:
    return a + (b - a) * share


def rotate_180(image: Pixels) -> Pixels:
    """Turn upside down: LIBERO's cameras are, and its data was turned."""
    return np.ascontiguousarray(image[::-1, ::-1])
