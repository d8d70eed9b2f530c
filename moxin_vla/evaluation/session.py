"""An evaluation as a person sees it: progress, table, report."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec
from moxin_vla.evaluation.listening import Listening, paired_specs, summarise_listening
from moxin_vla.evaluation.report import settings, write_html, write_json
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import EXPERT, EvaluationConfig, plan_episodes, run_episodes
from moxin_vla.evaluation.statistics import Summary, by_family
from moxin_vla.policy.loading import load_policy


def evaluate(
    config: EvaluationConfig,
    out: Path,
    title: str,
    listening: bool = False,
    verbose: bool = False,
) -> list[EpisodeResult]:
    """Run an evaluation, print its table, write `report.html` and `results.json` into `out`.

    Args:
        config: What to run.
        out: Folder; made if missing.
        title: Of the report.
        listening: Repeat each success with another object named.
        verbose: Print a line per episode.
    """
    console = Console()
    embodiment = load_embodiment(config.embodiment)
    fingerprint = ""
    if config.policy != EXPERT:  # refused here, before anything is started
        fingerprint = load_policy(config.policy, embodiment, "cpu").spec.fingerprint
    results = _run(console, config, plan_episodes(config), verbose, "episodes")
    heard = _listen(console, config, results) if listening else None
    out.mkdir(parents=True, exist_ok=True)
    rows, determined = by_family(results), settings(config, embodiment, fingerprint)
    write_json(out / "results.json", rows, results, determined, heard)
    write_html(out / "report.html", title, embodiment, results, determined, heard)
    print_table(console, rows)
    if heard:
        low, high = (100 * bound for bound in heard.interval)
        console.print(
            f"It listens: {heard.followed} of {heard.trials} with another object named "
            f"({low:.0f} to {high:.0f} %); "
            f"another object was touched or moved in {heard.acted_on_other}."
        )
    console.print(f"Report: {(out / 'report.html').resolve()}", soft_wrap=True)
    return results


def _listen(
    console: Console, config: EvaluationConfig, results: Sequence[EpisodeResult]
) -> Listening:
    from moxin_sim import other_object_episode

    specs = [(spec, False) for spec in paired_specs(results, other_object_episode)]
    return summarise_listening(_run(console, config, specs, False, "another object named"))


def _run(
    console: Console,
    config: EvaluationConfig,
    episodes: Sequence[tuple[EpisodeSpec, bool]],
    verbose: bool,
    label: str,
) -> list[EpisodeResult]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[won]} succeeded"),
        TimeRemainingColumn(),
    )
    won = 0
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=len(episodes), won=0)

        def on_result(result: EpisodeResult) -> None:
            nonlocal won
            won += result.success
            if verbose:
                progress.console.print(_line(result))
            progress.update(task, advance=1, won=won)

        return run_episodes(config, episodes, on_result)


def _line(result: EpisodeResult) -> str:
    seconds = result.status.step * result.step_ns / 1e9
    told = f'  "{result.spec.instruction}"'
    if result.success:
        return f"{told:<46} [green]done[/green] in {seconds:.1f} s"
    return f"{told:<46} [red]failed[/red]: {result.failure}"


def print_table(console: Console, rows: Sequence[Summary]) -> None:
    """Print success per family with its interval."""
    table = Table(title="Success", title_justify="left")
    for name in (
        "family",
        "success",
        "rate",
        "95 % interval",
        "time to success",
        "plan p50 / p99",
    ):
        table.add_column(name, justify="left" if name == "family" else "right")
    for row in rows:
        low, high = (100 * bound for bound in row.interval)
        table.add_row(
            row.name,
            f"{row.successes}/{row.trials}",
            f"{100 * row.rate:.0f} %",
            f"{low:.0f} to {high:.0f} %",
            f"{row.mean_time_s:.1f} s" if row.successes else "-",
            "{:.0f} / {:.0f} ms".format(*row.inference_ms),
            end_section=row is rows[-2] if len(rows) > 1 else False,
        )
    console.print(table)
