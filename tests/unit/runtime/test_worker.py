"""The worker plans from the newest observation and forgets what a reset has voided."""

import threading

import numpy as np
import pytest

from moxin_vla.core.errors import PolicyError
from moxin_vla.core.types import ActionChunk, Observation
from moxin_vla.runtime.worker import InferenceWorker

WAIT_S = 5.0


def observation(time_ns):
    return Observation(time_ns, {}, np.zeros(2), "touch the red cube")


class Gated:
    """A policy that plans only once the test opens its gate; refuses observations at time 13."""

    def __init__(self):
        self.gate, self.entered, self.calls = threading.Semaphore(0), threading.Semaphore(0), []

    def reset(self):
        self.calls.append("reset")

    def infer(self, seen):
        self.entered.release()
        assert self.gate.acquire(timeout=WAIT_S)
        self.calls.append(seen.time_ns)
        if seen.time_ns == 13:
            raise PolicyError("no plan")
        return ActionChunk(seen.time_ns, 50, np.zeros((2, 2)))


@pytest.fixture
def policy():
    return Gated()


@pytest.fixture
def ready():
    return threading.Semaphore(0)


@pytest.fixture
def worker(policy, ready):
    made = InferenceWorker(policy, ready.release)
    yield made
    policy.gate.release(100)
    made.close()


def plan(worker, policy, ready, time_ns):
    worker.submit(observation(time_ns))
    policy.gate.release()
    assert ready.acquire(timeout=WAIT_S)
    return worker.take()


def test_a_plan_comes_back_with_its_observation_time(worker, policy, ready):
    (result,) = plan(worker, policy, ready, 5)
    assert (result.observation_time_ns, result.error) == (5, None)
    assert result.chunk.observation_time_ns == 5 and result.wall_ns > 0
    assert worker.take() == []


def test_the_policy_is_reset_once_per_episode(worker, policy, ready):
    plan(worker, policy, ready, 5)
    plan(worker, policy, ready, 6)
    worker.reset()
    plan(worker, policy, ready, 7)
    assert policy.calls == ["reset", 5, 6, "reset", 7]


def test_the_newest_observation_replaces_the_one_that_waits(worker, policy, ready):
    worker.submit(observation(1))
    assert policy.entered.acquire(timeout=WAIT_S)
    worker.submit(observation(2))
    worker.submit(observation(3))
    policy.gate.release(2)
    assert ready.acquire(timeout=WAIT_S) and ready.acquire(timeout=WAIT_S)
    assert [result.observation_time_ns for result in worker.take()] == [1, 3]
    assert worker.replaced == 1


def test_an_error_is_a_result_and_the_worker_lives(worker, policy, ready):
    (failed,) = plan(worker, policy, ready, 13)
    assert failed.chunk is None and str(failed.error) == "no plan"
    (result,) = plan(worker, policy, ready, 14)
    assert result.error is None


def test_a_plan_begun_before_a_reset_is_void(worker, policy, ready):
    worker.submit(observation(1))
    assert policy.entered.acquire(timeout=WAIT_S)
    worker.reset()
    worker.submit(observation(2))
    policy.gate.release(2)
    assert ready.acquire(timeout=WAIT_S)
    assert [result.observation_time_ns for result in worker.take()] == [2]


def test_it_is_busy_while_it_plans(worker, policy, ready):
    assert not worker.busy
    worker.submit(observation(1))
    assert policy.entered.acquire(timeout=WAIT_S)
    assert worker.busy
    policy.gate.release()
    assert ready.acquire(timeout=WAIT_S)
    assert not worker.busy
