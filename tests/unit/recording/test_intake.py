"""What a message carries is checked before it may become part of a row."""

import numpy as np
import pytest

from moxin_vla.core.errors import RecordingError
from moxin_vla.recording.intake import COMMAND, Intake
from tests.recording.episodes import ROBOT
from tests.recording.messages import STEP, joints, target


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_command_that_is_not_finite_is_refused(bad):
    intake = Intake(ROBOT)
    intake.rows.begin()
    message = target(STEP)
    message.points[0].positions[1] = bad
    with pytest.raises(RecordingError) as refusal:
        intake.take(COMMAND, message)
    assert str(refusal.value) == f"A command is not finite: 0.2, {bad}, 0.2, 0.2, 0.2, 0.2"
    assert intake.rows.pending == 0


def test_a_leaders_joint_state_that_is_not_finite_is_refused():
    with pytest.raises(RecordingError, match=f"{COMMAND}: Joint state is not finite for: shou"):
        Intake(ROBOT).take(COMMAND, joints(STEP, at=np.nan))
