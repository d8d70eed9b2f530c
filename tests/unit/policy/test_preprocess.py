import numpy as np
import pytest

from moxin_vla.core.errors import CheckpointError, ObservationError
from moxin_vla.policy.moxin.pixels import centre_crop, jpeg_round_trip, lanczos3_resize
from moxin_vla.policy.moxin.preprocess import Steps, default_preprocessor, load_preprocessor


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


def _with(config, **steps):
    return load_preprocessor({}, config, steps)


def test_released_steps_are_resize_jpeg_and_crop(config):
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    steps = {"resize": "lanczos3", "jpeg_round_trip": True, "center_crop": True}
    found = _with(config, **steps).stack({"front": image, "wrist": image})
    expected = centre_crop(lanczos3_resize(jpeg_round_trip(image), 24))
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], expected)


def test_an_image_of_the_models_size_is_not_compressed(config):
    steps = {"resize": "lanczos3", "jpeg_round_trip": True}
    images = _images()
    assert np.array_equal(_with(config, **steps).stack(images)[0], images["front"])


def test_only_the_named_cameras_are_turned_and_nothing_is_changed_in_place(config):
    images = _images()
    before = {name: image.copy() for name, image in images.items()}
    found = _with(config, rotate_180=["wrist"]).stack(images)
    assert np.array_equal(found[0], before["front"])
    assert np.array_equal(found[1], before["wrist"][::-1, ::-1])
    assert all(np.array_equal(images[name], before[name]) for name in images)


def test_a_files_own_section_is_read_and_a_policy_file_wins(config):
    content = {"moxin_vla": {"resize": "lanczos3", "center_crop": True}}
    assert load_preprocessor(content, config).steps == Steps((), "lanczos3", False, True)
    steps = load_preprocessor(content, config, {"center_crop": False}).steps
    assert steps == Steps((), "lanczos3", False, False)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"sharpen": 1},
            "preprocessing: unknown sharpen. "
            "Known: rotate_180, resize, jpeg_round_trip, center_crop",
        ),
        (
            {"resize": "cubic"},
            "preprocessing: unknown resize 'cubic'. Choose from: none, lanczos3",
        ),
        ({"jpeg_round_trip": True}, "preprocessing: jpeg_round_trip needs resize: lanczos3."),
        (
            {"rotate_180": ["side"]},
            "preprocessing: rotate_180 names unknown cameras: side. The model has: front, wrist",
        ),
    ],
)
def test_wrong_steps_are_refused(config, steps, message):
    with pytest.raises(CheckpointError) as error:
        _with(config, **steps)
    assert str(error.value) == message
