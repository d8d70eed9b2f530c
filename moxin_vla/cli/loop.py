"""`moxin-vla loop`: teach a task from beginning to end, in simulation: the expert demonstrates, a
policy learns, is evaluated, is corrected where it fails, learns again. Run it again to go on.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moxin_vla.core.errors import MoxinVlaError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "loop", help="record, train, evaluate, correct, train again", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=Path("runs/loop"), help="default %(default)s")
    parser.add_argument("--family", default="pick", help="task family (default %(default)s)")
    parser.add_argument(
        "--demonstrations", type=int, default=15, help="by the expert (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="of the first training (default %(default)s)"
    )
    parser.add_argument(
        "--corrections",
        type=int,
        default=60,
        help="episodes in which the policy drives until it is late, then the expert "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--more-steps", type=int, default=400, help="of the second training (default %(default)s)"
    )
    parser.add_argument(
        "--episodes", type=int, default=100, help="of each evaluation (default %(default)s)"
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="train a second policy as long, without the corrections: what practice alone gives",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet; returns 0 if the corrected policy is better."""
    loop = _Loop(args)
    expert, corrections = args.out / "demonstrations", args.out / "corrections"
    first, second, control = (args.out / name for name in ("first", "second", "control"))
    loop.record("the expert demonstrates", expert, args.demonstrations, 2_000_000)
    loop.check("the demonstrations", expert)
    fresh = ["--set", "fresh_head=true"]
    begins = "moxin-nano, with a new action head, learns from it"
    loop.train(begins, first, [expert], args.steps, fresh)
    loop.evaluate("the first policy", first)
    late = ["--policy", first / "checkpoint", "--expert", "late", "--after", 1.5]
    drives = "it drives, and the expert takes over where it is late"
    loop.record(drives, corrections, args.corrections, 2_100_000, late)
    loop.check("the corrections", corrections)
    both, on = [f"{expert}:1", f"{corrections}:1"], ["--base", first / "checkpoint"]
    loop.train("it learns from both", second, both, args.more_steps, on)
    loop.evaluate("the corrected policy", second)
    if args.control:
        practises = "it learns as long, from the demonstrations alone"
        loop.train(practises, control, [expert], args.more_steps, on)
        loop.evaluate("the practised policy", control)
    low = _compare("before the corrections", first, "after them", second)
    if args.control:
        _compare("as long without them", control, "with them", second)
    return 0 if low > 0 else 1


def _settings(steps: int) -> list[str]:
    average = max(10, steps // 10)
    pairs = (f"steps={steps}", f"save_every={steps}", f"average={average}")
    return [word for pair in pairs for word in ("--set", pair)]


class _Loop:
    """Runs our own verbs, each in a process of its own, and remembers which are done."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._number, self._first = args, 0, ""
        args.out.mkdir(parents=True, exist_ok=True)

    def stage(
        self,
        what: str,
        mark: Path,
        words: Sequence[Any],
        rest: Sequence[Any] | None = None,
        of: str = "",
    ) -> None:
        """Run a verb unless it was run before with the same words.

        Args:
            what: What a person reads.
            mark: File that remembers that it was done.
            words: The whole of it.
            rest: What is left of it, if some was done before it was interrupted.
            of: What it was done with, besides the words.
        """
        self._number += 1
        said = _said(words) + of
        if _text(mark) == said:
            print(f"{self._number}. {what}: done before", flush=True)
            return
        order = [str(word) for word in (words if rest is None else rest)]
        print(f"{self._number}. {what}: moxin-vla {' '.join(order)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "moxin_vla.cli.main", *order], check=False)
        if done.returncode:
            raise MoxinVlaError(f"moxin-vla {' '.join(order[:2])} ended with {done.returncode}.")
        mark.write_text(said, encoding="utf-8")

    def record(
        self, what: str, dataset: Path, episodes: int, seed: int, how: Sequence[Any] = ()
    ) -> None:
        """Play and record simulated episodes; one that was interrupted goes on with the scene it
        had come to.
        """

        def words(done: int) -> list[Any]:
            scenes = ["--episodes", episodes - done, "--seed", seed + done]
            return ["record", dataset, "--sim", "--families", self._args.family, *scenes, *how]

        whole, begun = _said(words(0)), dataset.with_name(f"{dataset.name}.begun")
        mark, held = dataset.with_name(f"{dataset.name}.done"), _episodes(dataset)
        before, _, order = _text(begun).partition(" ")
        if order != whole:
            before = str(held)
            begun.write_text(f"{before} {whole}", encoding="utf-8")
        done = max(0, held - int(before))
        if done >= episodes:
            mark.write_text(whole, encoding="utf-8")
        self.stage(what, mark, words(0), words(done))

    def train(
        self, what: str, out: Path, data: Sequence[Any], steps: int, how: Sequence[Any]
    ) -> None:
        """Train a policy."""
        words = ["train", "--data", *data, *how, "--out", out, *_settings(steps)]
        held = [_episodes(Path(str(root).removesuffix(":1"))) for root in data]
        of = f" of {held} episodes{self._first}"
        said, begun = _said(words) + of, out.with_name(f"{out.name}.begun")
        if _text(begun) not in ("", said):
            shutil.rmtree(out, ignore_errors=True)  # it learned from other episodes
        begun.write_text(said, encoding="utf-8")
        self.stage(what, out.with_name(f"{out.name}.done"), words, of=of)
        self._first = self._first or f" after {said}"

    def check(self, what: str, dataset: Path) -> None:
        """Look for what would spoil training; an error ends the loop."""
        page = dataset.with_name(f"{dataset.name}.html")
        words = ["dataset", "check", dataset, "--html", page]
        mark = dataset.with_name(f"{dataset.name}_checked.done")
        self.stage(f"{what} are checked", mark, words, of=f" of {_episodes(dataset)} episodes")

    def evaluate(self, what: str, folder: Path) -> None:
        """Play the same unseen scenes for every policy."""
        args = self._args
        self.stage(
            f"{what} is evaluated",
            folder / "evaluated.done",
            [
                "eval",
                folder / "checkpoint",
                "--families",
                args.family,
                "--episodes",
                args.episodes,
                "--workers",
                2,
                "--out",
                folder / "evaluation",
            ],
        )


def _said(words: Sequence[Any]) -> str:
    return json.dumps([str(word) for word in words])


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _episodes(dataset: Path) -> int:
    text = _text(dataset / "meta" / "info.json")
    return json.loads(text)["total_episodes"] if text else 0


def _compare(one: str, before: Path, other: str, after: Path) -> float:
    """Print both success rates and their paired difference; returns its lower bound."""
    from moxin_vla.evaluation.paired import paired_difference, paired_test

    old, new = (_successes(folder) for folder in (before, after))
    gain, (low, high) = paired_difference(new, old)
    test = paired_test(new, old)
    print(
        f"\n{one} {sum(old)} of {len(old)}, {other} {sum(new)} of {len(new)}, on the same scenes: "
        f"{100 * gain:+.0f} points, 95 % interval {100 * low:+.0f} to {100 * high:+.0f} "
        f"(won {test.wins}, lost {test.losses})"
    )
    print(f"reports: {before / 'evaluation/report.html'}, {after / 'evaluation/report.html'}")
    return low


def _successes(folder: Path) -> list[bool]:
    results = json.loads((folder / "evaluation" / "results.json").read_text(encoding="utf-8"))
    return [episode["success"] for episode in results["episodes"]]
