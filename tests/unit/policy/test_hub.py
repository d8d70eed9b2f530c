"""Where checkpoints come from."""

import pytest

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.moxin.hub import find_checkpoint


def test_a_download_is_found_again_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    root = tmp_path / "models--owner--model"
    snapshot = root / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert find_checkpoint("owner/model") == snapshot


def test_what_is_neither_here_nor_downloadable_says_both(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as error:
        find_checkpoint("owner/missing")
    message = str(error.value)
    assert message.startswith("There is no directory 'owner/missing', and it can't be downloaded")
    assert message.endswith("and that HF_HUB_OFFLINE is not set.")


def test_a_mistyped_path_is_not_looked_for_elsewhere():
    with pytest.raises(CheckpointError) as error:
        find_checkpoint("/no/such/place")
    assert str(error.value) == "There is no checkpoint directory at '/no/such/place'."
