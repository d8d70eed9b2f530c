"""Image bytes become RGB pixels, or are refused with the numbers that do not fit."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from moxin_vla.core.errors import ObservationError
from moxin_vla.core.images import decode_compressed, decode_raw, resized

RGB = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)  # (height, width, 3)


def test_rgb8_is_read_without_a_copy():
    data = RGB.tobytes()
    pixels = decode_raw(data, "rgb8", 2, 4, 12)
    assert np.array_equal(pixels, RGB)
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8))


def test_bgr8_is_turned_into_rgb():
    pixels = decode_raw(RGB[:, :, ::-1].tobytes(), "bgr8", 2, 4, 12)
    assert np.array_equal(pixels, RGB) and pixels.flags.c_contiguous


def test_mono8_fills_three_channels():
    grey = np.arange(8, dtype=np.uint8).reshape(2, 4)
    pixels = decode_raw(grey.tobytes(), "mono8", 2, 4, 4)
    assert pixels.shape == (2, 4, 3)
    assert all(np.array_equal(pixels[:, :, c], grey) for c in range(3))


def test_row_padding_is_skipped():
    padded = np.full((2, 16), 255, np.uint8)
    padded[:, :12] = RGB.reshape(2, 12)
    assert np.array_equal(decode_raw(padded.tobytes(), "rgb8", 2, 4, 16), RGB)


def test_an_unknown_encoding_lists_the_known_ones():
    with pytest.raises(ObservationError) as caught:
        decode_raw(b"", "16UC1", 2, 4, 8)
    assert str(caught.value) == ("Unknown image encoding '16UC1'. Choose from: rgb8, bgr8, mono8")


@pytest.mark.parametrize(
    ("size", "height", "width", "step"), [(23, 2, 4, 12), (24, 2, 4, 11), (24, 0, 4, 12)]
)
def test_sizes_that_contradict_each_other_are_refused(size, height, width, step):
    with pytest.raises(ObservationError) as caught:
        decode_raw(bytes(size), "rgb8", height, width, step)
    assert str(caught.value) == (
        f"A rgb8 image of 4x{height} needs a step of at least 12 and step * height bytes. "
        f"Got: step {step} and {size} bytes"
    )


def gradient():
    """Return an image in which red, green and blue differ: (16, 32, 3)."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 220, 120, 20
    return pixels


def test_png_comes_back_exactly():
    _, data = cv2.imencode(".png", gradient()[:, :, ::-1])
    assert np.array_equal(decode_compressed(data.tobytes()), gradient())


def test_jpeg_keeps_the_order_of_the_colours():
    _, data = cv2.imencode(".jpg", gradient()[:, :, ::-1])
    difference = decode_compressed(data.tobytes()).astype(int) - gradient()
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("data", "got"), [(b"", "0 bytes starting with b''"), (b"pixels", "6 bytes starting with")]
)
def test_bytes_that_are_no_image_are_refused(data, got):
    with pytest.raises(ObservationError) as caught:
        decode_compressed(data)
    message = str(caught.value)
    assert message.startswith(f"A compressed image can't be decoded. Got: {got}")
    assert message.endswith("Expected: JPEG or PNG")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_an_image_of_a_size_that_nobody_can_hold_is_refused():
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(9)))
    with pytest.raises(ObservationError, match=r"can't be decoded. Got: .* starting with b'.x89P"):
        decode_compressed(data)


def test_an_image_of_the_right_size_is_left_alone():
    assert resized(RGB, 2, 4) is RGB


def test_a_larger_image_is_area_averaged():
    checks = np.indices((8, 8)).sum(axis=0) % 2 * np.uint8(200)
    pixels = np.repeat(checks[:, :, None].astype(np.uint8), 3, axis=2)
    assert np.array_equal(resized(pixels, 4, 2), np.full((4, 2, 3), 100, np.uint8))
