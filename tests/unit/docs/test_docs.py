"""What the documents say is what the files say."""

import json
import re
from pathlib import Path

import pytest

from moxin_vla.cli.demo import CHECKPOINT
from moxin_vla.core.dataset import FINISHED_MARK
from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.evaluation.card import render_card, results_table
from moxin_vla.policy.loading import load_policy

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / CHECKPOINT
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), SHIPPED / "README.md"])


def shipped_results():
    return json.loads((SHIPPED / "results.json").read_text(encoding="utf-8"))


def test_the_readme_and_the_card_show_the_measured_table():
    table = results_table(shipped_results())
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    assert table in (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_the_shipped_checkpoint_is_the_measured_one():
    embodiment = load_embodiment(ROOT / "config" / "embodiments" / "so101_sim.yaml")
    fingerprint = load_policy(str(SHIPPED), embodiment).spec.fingerprint
    assert shipped_results()["settings"]["policy fingerprint"] == fingerprint
    assert f"`{fingerprint}`" in (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_the_shipped_checkpoint_is_small():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 40e6


def test_the_evaluated_seeds_are_not_the_training_seeds():
    seeds = {episode["seed"] for episode in shipped_results()["episodes"]}
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    first, last = map(int, re.search(r"\(seeds (\d+) to (\d+)\)", card).groups())
    assert len(seeds) == 100 and not seeds & set(range(first, last + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_a_card_is_made_of_the_files_it_is_given(tmp_path):
    (tmp_path / "train").mkdir()
    row = {"samples": 640, "action": 0.25, "located": 0.5}
    (tmp_path / "train" / "train.jsonl").write_text(json.dumps(row) + "\n")
    for index, driver in enumerate(("expert", "policy abc")):
        shard = tmp_path / "data" / f"shard_{index:03d}"
        (shard / FINISHED_MARK).parent.mkdir(parents=True)
        mark = {"driver": driver, "episodes": 5, "first_seed": 100 * index, "stride": 4}
        (shard / FINISHED_MARK).write_text(json.dumps(mark))
    config = json.loads((SHIPPED / "config.json").read_text())
    card = render_card(config, tmp_path, shipped_results())
    assert "10 episodes in 2 LeRobotDataset v3 folders" in card
    assert "(seeds 0 to 104)" in card and "in 1 of the folders (5 episodes)" in card
    assert "640 samples on" in card and "is 0.2500" in card and "50.0 % of the time" in card
