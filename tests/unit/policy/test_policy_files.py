"""The policy files that are shipped say what they mean and nothing unknown."""

import pytest

from moxin_vla.core.resources import resource_path
from moxin_vla.policy.moxin.policy_file import read_policy_file

_FILES = ("openvla_oft_libero", "openvla_oft_aloha", "openvla_7b", "moxin_vla")


@pytest.mark.parametrize("name", _FILES)
def test_a_shipped_policy_file_is_read(name):
    said = read_policy_file(resource_path(f"config/policies/{name}.yaml"))
    assert said.checkpoint
    if "joints" in said.config:
        assert len(said.config["joints"]) in (7, 14)
