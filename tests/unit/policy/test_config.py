import json
from dataclasses import replace

import pytest

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.config_io import config_from_json, config_to_json


def _content(config):
    return json.loads(json.dumps(config_to_json(config, {"data": {}})))


def test_config_survives_json(config):
    assert config_from_json(_content(config)) == config


def test_released_field_names_are_written(config):
    content = _content(config)
    assert content["model_type"] == "openvla"
    assert content["use_fused_vision_backbone"] is True
    assert content["image_sizes"] == [24, 24]
    assert content["text_config"]["num_key_value_heads"] == 2
    assert content["norm_stats"] == {"data": {}}


def test_unknown_fields_of_text_config_are_ignored(config):
    content = _content(config)
    content["text_config"]["torch_dtype"] = "bfloat16"
    assert config_from_json(content) == config


def test_missing_field_is_named(config):
    content = _content(config)
    del content["moxin_vla"]["chunk"]
    with pytest.raises(CheckpointError) as error:
        config_from_json(content)
    assert str(error.value) == "config.json: the field 'chunk' is missing."


def test_unknown_action_space_lists_the_choices(config):
    content = _content(config)
    content["moxin_vla"]["action_space"] = "telepathy"
    with pytest.raises(CheckpointError) as error:
        config_from_json(content)
    assert str(error.value) == (
        "config.json: unknown action_space 'telepathy'. "
        "Choose from: joint_position, joint_delta, end_effector_delta"
    )


def test_unknown_attention_lists_the_choices(config):
    with pytest.raises(CheckpointError) as error:
        replace(config, attention="sideways")
    assert str(error.value) == (
        "Unknown attention 'sideways' in config.json. Choose from: bidirectional, causal"
    )


def test_absolute_dim_outside_the_action_is_refused(config):
    with pytest.raises(CheckpointError) as error:
        replace(config, absolute_dims=(6,))
    assert str(error.value) == "config.json: absolute_dims must be in 0..5. Got: [6]"


def test_towers_of_different_sizes_are_refused(config):
    small = replace(config.towers[0], image_size=12)
    with pytest.raises(CheckpointError, match="same image size and patches"):
        replace(config, towers=(small, config.towers[1]))
