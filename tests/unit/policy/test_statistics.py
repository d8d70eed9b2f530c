import json

import numpy as np
import pytest

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.statistics import (
    fit_statistics,
    load_statistics,
    parse_statistics,
    select_entry,
)


def _entry():
    def vector(low, high):
        return {"min": [2 * v for v in low], "max": [2 * v for v in high], "q01": low, "q99": high}

    return {
        "action": vector([-1.0, -2.0, 0.0], [1.0, 4.0, 1.0]) | {"mask": [True, True, False]},
        "proprio": vector([-1.0, 0.0, 2.0], [1.0, 1.0, 6.0]),
    }


def test_quantiles_map_to_minus_one_and_one():
    statistics = parse_statistics(_entry(), "bounds_q99", 3, 3)
    np.testing.assert_allclose(statistics.action.unnormalise([1.0, -1.0, 0.3]), [1.0, -2.0, 0.3])
    np.testing.assert_allclose(
        statistics.normalise_proprio([0.0, 1.0, 3.0]), [0.0, 1.0, -0.5], atol=1e-7
    )


def test_bounds_use_min_and_max():
    statistics = parse_statistics(_entry(), "bounds", 3, 3)
    np.testing.assert_allclose(statistics.action.unnormalise([1.0, -1.0, 0.3]), [2.0, -4.0, 0.3])


def test_actions_round_trip_and_masked_dims_pass_unchanged():
    action = parse_statistics(_entry(), "bounds_q99", 3, 3).action
    raw = np.random.default_rng(0).normal(size=(5, 4, 3))
    np.testing.assert_allclose(action.unnormalise(action.normalise(raw)), raw, atol=1e-12)
    np.testing.assert_array_equal(action.normalise(raw)[..., 2], raw[..., 2])


def test_proprio_is_clipped():
    statistics = parse_statistics(_entry(), "bounds_q99", 3, 3)
    np.testing.assert_array_equal(statistics.normalise_proprio([9.0, -9.0, 4.0])[:2], [1.0, -1.0])


def test_fitted_statistics_scale_their_own_data_into_the_unit_box():
    rng = np.random.default_rng(1)
    actions, proprio = rng.normal(size=(500, 3)), rng.normal(3.0, 2.0, size=(500, 3))
    entry = json.loads(json.dumps(fit_statistics(actions, proprio)))
    statistics = parse_statistics(entry, "bounds_q99", 3, 3)
    inside = np.abs(statistics.action.normalise(actions)) <= 1.0
    assert 0.97 < inside.mean() < 1.0
    np.testing.assert_allclose(entry["proprio"]["mean"], proprio.mean(0))


def test_a_dim_that_never_moves_does_not_blow_up():
    still = np.full((50, 1), 0.5)
    statistics = parse_statistics(fit_statistics(still, still), "bounds_q99", 1, 1)
    assert np.abs(statistics.action.normalise([[0.501]])).max() < 0.1


def test_several_data_sets_and_none_chosen_lists_them():
    with pytest.raises(CheckpointError) as error:
        select_entry({"lab_a": {}, "lab_b": {}}, None)
    assert str(error.value) == (
        "The checkpoint has statistics of several data sets and none was chosen. "
        "Set statistics_key to one of: lab_a, lab_b"
    )


def test_unknown_key_lists_the_known_ones():
    with pytest.raises(CheckpointError) as error:
        select_entry({"lab_a": {}}, "lab_c")
    assert str(error.value) == "Unknown statistics key 'lab_c'. Known: lab_a"


def test_wrong_length_is_refused():
    with pytest.raises(CheckpointError) as error:
        parse_statistics(_entry(), "bounds_q99", 4, 3)
    assert str(error.value) == (
        "dataset_statistics.json: 'action.q01' must hold 4 finite values. Got: [-1.0, -2.0, 0.0]"
    )


def test_missing_bound_is_named():
    entry = _entry()
    del entry["proprio"]["q99"]
    with pytest.raises(CheckpointError) as error:
        parse_statistics(entry, "bounds_q99", 3, 3)
    assert str(error.value) == "dataset_statistics.json: 'proprio.q99' is missing."


def test_broken_json_is_refused(tmp_path):
    path = tmp_path / "dataset_statistics.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        load_statistics(path)
