"""The card of a checkpoint: how it was made and how often it succeeds, read from files."""

import json
import shutil
from pathlib import Path
from typing import Any

from moxin_vla.core.dataset import FINISHED_MARK

_TASKS = {
    "touch": "touch the named cube and no other",
    "pick": "lift the named cube 4 cm and hold it",
    "place": "put the named cube in the bowl and let go",
}
_EPISODE_KEYS = ("family", "seed", "instruction", "success", "failure", "steps")


def write_card(checkpoint: Path, workshop: Path, recipe: Path, results: Path) -> None:
    """Write README.md into a checkpoint, with training log, recipe and results beside it.

    Args:
        checkpoint: The checkpoint's folder.
        workshop: Where it was made: `data/`, `train/train.jsonl`, `adapt/train.jsonl` if there
            was a second stage, and `notes.md` if there is something to add.
        recipe: The recipe file.
        results: results.json of its evaluation.
    """
    shutil.copy(workshop / "train" / "train.jsonl", checkpoint / "train.jsonl")
    adapted = workshop / "adapt" / "train.jsonl"
    if adapted.is_file():
        shutil.copy(adapted, checkpoint / "adapt.jsonl")
    shutil.copy(recipe, checkpoint / "recipe.yaml")
    content = _read(results)
    compact = {key: content[key] for key in ("schema", "settings", "summary", "listening")}
    compact["episodes"] = [{key: e[key] for key in _EPISODE_KEYS} for e in content["episodes"]]
    text = json.dumps(compact, separators=(",", ":")).replace("},{", "},\n{")
    (checkpoint / "results.json").write_text(text + "\n", encoding="utf-8")
    card = render_card(_read(checkpoint / "config.json"), workshop, content)
    (checkpoint / "README.md").write_text(card, encoding="utf-8")


def results_table(content: dict[str, Any]) -> str:
    """Return the success table of a results.json, in Markdown."""
    values = {"summary": content["summary"], "listening": content["listening"]}
    return _template("results.md.j2").render(tasks=_TASKS, **values).strip()


def render_card(config: dict[str, Any], workshop: Path, content: dict[str, Any]) -> str:
    """Return the card's Markdown, from config.json, the workshop's files and results.json."""
    log = (workshop / "train" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    last, notes = json.loads(log[-1]), workshop / "notes.md"
    adapted = workshop / "adapt" / "train.jsonl"
    rows = adapted.read_text(encoding="utf-8").splitlines() if adapted.is_file() else []
    return _template("card.md.j2").render(
        ours=config["moxin_vla"],
        text=config["text_config"],
        attention=config["moxin_vla"]["attention"],
        settings=content["settings"],
        table=results_table(content),
        last=last,
        samples=round(last["samples"]),
        adapted=json.loads(rows[-1]) if rows else None,
        notes=notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        **_data(workshop),
    )


def _data(workshop: Path) -> dict[str, int]:
    marks = [_read(path) for path in sorted((workshop / "data").glob(f"*/{FINISHED_MARK}"))]
    driven = [mark for mark in marks if mark["driver"] != "expert"]
    return {
        "episodes": sum(mark["episodes"] for mark in marks),
        "shards": len(marks),
        "driven_shards": len(driven),
        "driven_episodes": sum(mark["episodes"] for mark in driven),
        "first_seed": marks[0]["first_seed"],
        "last_seed": marks[-1]["first_seed"] + marks[-1]["episodes"] - 1,
        "stride": marks[0]["stride"],
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("moxin_vla.evaluation")
    environment = Environment(
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(name)
