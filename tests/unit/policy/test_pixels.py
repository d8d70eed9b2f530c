"""Image operations against hand-made numbers and, where there is one, another library."""

import io

import numpy as np
import pytest
from PIL import Image

from moxin_vla.policy.moxin.pixels import (
    bicubic_resize,
    centre_crop,
    crop_samples,
    jpeg_round_trip,
    lanczos3_resize,
    resize_weights,
    rotate_180,
)


def _picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes and some noise, as a camera sees."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width] / 40.0
    waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(3 * y)], axis=-1)
    return np.clip(128 + 90 * waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def test_crop_begins_at_5_7218_and_steps_by_0_948683():
    before, _, share = crop_samples(224)
    at = before + share
    assert at[0] == pytest.approx(5.7218, abs=1e-4)
    np.testing.assert_allclose(np.diff(at), 0.948683, atol=2e-5)
    assert at[-1] == pytest.approx(223 - 5.7218, abs=1e-4)


def test_crop_is_bilinear_by_hand():
    image = _picture(224, 224)
    found = centre_crop(image)
    offset, step = (1 - 0.9**0.5) / 2 * 223, 0.9**0.5
    for i, j in ((0, 0), (17, 201), (111, 112), (223, 223)):
        y, x = offset + i * step, offset + j * step
        y0, x0 = int(y), int(x)
        corners = image[y0 : y0 + 2, x0 : x0 + 2].astype(float) / 255
        top = corners[0, 0] + (corners[0, 1] - corners[0, 0]) * (x - x0)
        bottom = corners[1, 0] + (corners[1, 1] - corners[1, 0]) * (x - x0)
        value = (top + (bottom - top) * (y - y0)) * 255.5
        on_the_edge = np.abs(value % 1 - 0.5) > 0.4999
        assert np.all((found[i, j] == np.floor(value)) | on_the_edge)


def test_crop_keeps_a_plain_image():
    plain = np.full((224, 224, 3), 200, np.uint8)
    assert np.array_equal(centre_crop(plain), plain)
    assert np.array_equal(centre_crop(np.full_like(plain, 255)), np.full_like(plain, 255))


@pytest.mark.parametrize(("height", "width"), [(256, 256), (480, 640), (100, 150)])
def test_resize_agrees_with_another_library(height, width):
    image = _picture(height, width)
    expected = np.stack(
        [
            np.asarray(
                Image.fromarray(image[..., c].astype(np.float32), mode="F").resize(
                    (224, 224), Image.Resampling.LANCZOS
                )
            )
            for c in range(3)
        ],
        axis=-1,
    )
    exact = np.tensordot(resize_weights(height, 224), image.astype(float), axes=(1, 0))
    exact = np.tensordot(exact, resize_weights(width, 224), axes=(1, 1)).transpose(0, 2, 1)
    np.testing.assert_allclose(exact, expected, atol=2e-3)
    rounded = np.clip(np.rint(expected), 0, 255)
    assert np.mean(lanczos3_resize(image, 224) != rounded) < 1e-4


def test_shrinking_widens_the_kernel_and_growing_does_not():
    assert (np.abs(resize_weights(448, 224)[100]) > 1e-6).sum() == 12
    assert (np.abs(resize_weights(112, 224)[100]) > 1e-6).sum() == 6
    np.testing.assert_allclose(resize_weights(448, 224).sum(1), 1, atol=1e-6)


def test_resize_to_the_same_size_changes_nothing():
    image = _picture(64, 64)
    assert np.array_equal(lanczos3_resize(image, 64), image)


def test_jpeg_is_quality_95_with_halved_colour():
    image = _picture(120, 160)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95, subsampling=2)
    assert np.array_equal(jpeg_round_trip(image), np.asarray(Image.open(stream)))


def test_rotation_turns_both_axes():
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(rotate_180(image)[0, 0], image[1, 2])


@pytest.mark.parametrize(("height", "width"), [(480, 640), (100, 150)])
def test_bicubic_resize_is_pillows(height, width):
    image = _picture(height, width)
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    difference = np.abs(bicubic_resize(image, 224).astype(int) - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 0.01
