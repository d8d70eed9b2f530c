import numpy as np
import pytest

from moxin_vla.core.errors import CheckpointError, ObservationError
from moxin_vla.policy.moxin.preprocess import default_preprocessor, load_preprocessor


@pytest.fixture
def preprocessor(config):
    return load_preprocessor(default_preprocessor(config), config)


def _images(side=24):
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (side, side, 3), np.uint8) for name in ("front", "wrist")}


def test_every_camera_is_normalised_once_per_tower(preprocessor):
    images = _images()
    pixels = preprocessor.pixel_values(preprocessor.stack(images)[None]).numpy()
    assert pixels.shape == (1, 12, 24, 24)
    for camera, name in enumerate(("front", "wrist")):
        scaled = images[name].transpose(2, 0, 1) / 255.0
        dino, siglip = pixels[0, 6 * camera : 6 * camera + 3], pixels[0, 6 * camera + 3 :][:3]
        np.testing.assert_allclose(dino[0], (scaled[0] - 0.484375) / 0.228515625, atol=1e-5)
        np.testing.assert_allclose(siglip, (scaled - 0.5) / 0.5, atol=1e-5)


def test_cameras_follow_the_models_order_not_the_observations(preprocessor):
    images = _images()
    swapped = dict(reversed(images.items()))
    np.testing.assert_array_equal(preprocessor.stack(swapped), preprocessor.stack(images))


def test_missing_camera_lists_the_known_ones(preprocessor):
    images = _images()
    images["side"] = images.pop("wrist")
    with pytest.raises(ObservationError) as error:
        preprocessor.stack(images)
    assert str(error.value) == (
        "The policy needs camera 'wrist'. The observation has: front, side"
    )


def test_wrong_size_is_refused(preprocessor):
    with pytest.raises(ObservationError) as error:
        preprocessor.stack(_images(side=32))
    assert str(error.value) == "Image 'front' must be 24x24 RGB. Got: (32, 32, 3)"


def test_means_are_read_from_the_file(config):
    content = default_preprocessor(config)
    content["tvf_normalize_params"] = [{"mean": [0, 0, 0], "std": [1, 1, 1]}] * 2
    preprocessor = load_preprocessor(content, config)
    white = np.full((1, 2, 24, 24, 3), 255, np.uint8)
    assert (preprocessor.pixel_values(white) == 1.0).all()


def test_one_mean_for_two_towers_is_refused(config):
    content = default_preprocessor(config)
    content["tvf_normalize_params"] = content["tvf_normalize_params"][:1]
    with pytest.raises(CheckpointError) as error:
        load_preprocessor(content, config)
    assert str(error.value) == (
        "preprocessor_config.json: tvf_normalize_params has 1 entries. "
        "Expected 2, one per vision tower."
    )


def test_steps_that_are_not_built_are_refused(config):
    with pytest.raises(CheckpointError, match="'center_crop' is not supported yet"):
        load_preprocessor(default_preprocessor(config) | {"center_crop": True}, config)
