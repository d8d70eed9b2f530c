"""A camera that sends the same pixels while the arm moves."""

import numpy as np

from moxin_vla.observation.frozen import FrozenCamera


def image(value):
    return np.full((4, 4, 3), value, np.uint8)


def look(watchdog, ticks, value=lambda k: 7, joint=lambda k: 0.1 * k):
    frozen = [
        watchdog.frozen(k * 100_000_000, image(value(k)), np.array([joint(k), 0.0]))
        for k in range(ticks)
    ]
    return frozen


def test_the_same_pixels_while_the_arm_moves_are_a_frozen_camera():
    assert look(FrozenCamera(0.5), 8) == [False] * 6 + [True] * 2


def test_the_same_pixels_while_the_arm_rests_are_not():
    assert not any(look(FrozenCamera(0.5), 30, joint=lambda k: 0.001))


def test_changing_pixels_are_not_frozen_and_end_a_freeze():
    watchdog = FrozenCamera(0.5)
    assert not any(look(watchdog, 30, value=lambda k: k))
    watchdog.reset()
    assert look(watchdog, 8)[-1]
    assert not watchdog.frozen(900_000_000, image(8), np.array([0.9, 0.0]))


def test_the_same_image_again_is_no_freeze():
    watchdog = FrozenCamera(0.5)
    assert not any(watchdog.frozen(0, image(7), np.array([0.1 * k, 0.0])) for k in range(9))
