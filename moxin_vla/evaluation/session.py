"""An evaluation as a person sees it: progress, table, report."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from moxin_vla.core.embodiment import load_embodiment
from moxin_vla.core.protocols import EpisodeSpec, PolicySpec
from moxin_vla.evaluation.config import EXPERT, EvaluationConfig, EvaluationError, check_horizon
from moxin_vla.evaluation.filming import film_failures
from moxin_vla.evaluation.listening import Listening, paired_specs, summarise_listening
from moxin_vla.evaluation.report import milliseconds, write_html, write_json
from moxin_vla.evaluation.rollout import EpisodeResult
from moxin_vla.evaluation.runner import plan_episodes, run_episodes
from moxin_vla.evaluation.settings import settings
from moxin_vla.evaluation.statistics import Summary, by_family, percent, percent_range
from moxin_vla.evaluation.video import NO_VIDEO, can_encode
from moxin_vla.policy.loading import read_spec
from moxin_vla.runtime.delay import parse_delay


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
    embodiment, policy = load_embodiment(config.embodiment), _policy_spec(config)
    episodes = plan_episodes(config)
    make_folder(out)
    if not can_encode():
        console.print(NO_VIDEO)
    results = play(console, config, episodes, verbose, "episodes")
    if config.over == "inprocess" and can_encode():
        results = film_failures(config, results)
    paired = _listen(console, config, results) if listening else None
    rows, determined = by_family(results), settings(config, embodiment, policy, results)
    write_json(out / "results.json", rows, results, determined, paired)
    write_html(out / "report.html", title, embodiment, results, determined, paired)
    print_table(console, rows)
    if paired is not None:
        console.print(_heard(summarise_listening(paired)))
    console.print(f"Report: {(out / 'report.html').resolve()}", soft_wrap=True)
    return results


def _policy_spec(config: EvaluationConfig) -> PolicySpec | None:
    """Refuse what can't be run before anything is started; None for the expert."""
    if config.policy == EXPERT:
        return None
    embodiment = load_embodiment(config.embodiment)
    spec = read_spec(config.policy, embodiment)
    trace = parse_delay(config.delay, embodiment.step_ns)
    check_horizon(spec, config.execution_horizon, config.joiner, trace)
    return spec


def make_folder(out: Path) -> None:
    """Make the report's folder now, not after an hour of episodes."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(
            f"The report can't be written to '{out}': {error.strerror}. Choose another --out."
        ) from None


def _listen(
    console: Console, config: EvaluationConfig, results: Sequence[EpisodeResult]
) -> list[EpisodeResult]:
    from moxin_sim import other_object_episode

    specs = [(spec, False) for spec in paired_specs(results, other_object_episode)]
    return play(console, config, specs, False, "another object named")


def _heard(heard: Listening) -> str:
    return (
        f"It listens: {heard.followed} of {heard.trials} with another object named "
        f"({percent_range(heard.interval)}); "
        f"another object was touched or moved in {heard.acted_on_other}."
    )


def play(
    console: Console,
    config: EvaluationConfig,
    episodes: Sequence[tuple[EpisodeSpec, bool]],
    verbose: bool,
    label: str,
) -> list[EpisodeResult]:
    """Play episodes with a progress bar named `label`; a line for each if `verbose`."""
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
    told = f'  "{result.spec.instruction}"'
    if result.success:
        return f"{told:<46} [green]done[/green] in {result.sim_s:.1f} s"
    return f"{told:<46} [red]failed[/red]: {escape(result.failure)}"


def print_table(console: Console, rows: Sequence[Summary]) -> None:
    """Print success per family with its interval."""
    table = Table(title="Success", title_justify="left")
    for name in (
        "family",
        "success",
        "rate",
        "95 % interval",
        "mean time",
        "plan p50 / p99",
    ):
        table.add_column(name, justify="left" if name == "family" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.successes}/{row.trials}",
            percent(row.rate),
            percent_range(row.interval),
            f"{row.mean_time_s:.1f} s" if row.successes else "-",
            " / ".join(milliseconds(ms) for ms in row.inference_ms),
            end_section=row is rows[-2] if len(rows) > 1 else False,
        )
    console.print(table)
