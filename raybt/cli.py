"""The command line: parse, call one function, print."""

import sys
from typing import Annotated

import typer
from dotenv import load_dotenv
from rich.console import Console

from raybt.errors import COMPLETE, FAILURE, STOPPED, Failure, UserError

app = typer.Typer(
    name="raybt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Intervention grids on reasoning language models, on any Ray cluster.",
    epilog="Exit codes: 0 complete, 1 failure, 2 bad input, 3 finished with failed rows, 130 stopped by Ctrl-C.",
)
out = Console(highlight=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A run's YAML file, for example configs/demo.yaml.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, for example artifacts/demo.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Change one value of the config; may be given more than once."),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="STAGE", help="Run this stage and what it needs; repeatable.")
]
AllowMixed = Annotated[
    bool, typer.Option("--allow-mixed", help="Go on in another model.dtype beside rows that are there in the old one.")
]
First = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and all after it.")]


@app.command()
def run(
    config: ConfigFile,
    override: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on (auto inside one); without it, a private local Ray.")
    ] = None,
    only: Only = None,
    first: First = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Run a config's stages, wave by wave, measure everything, write the report. The same command resumes it.

    [bold]raybt run configs/demo.yaml[/bold]
    [bold]raybt run configs/phase1_toy.yaml --only scan[/bold]
    [bold]raybt run configs/phase2.yaml --set model.name=/models/r1 --set problems.limit=10[/bold]
    """
    from raybt import show
    from raybt.load import load_config

    loaded = load_config(config, override or ())
    from raybt.fleet.driver import run as run_config  # loads Ray, which takes seconds that a bad config need not wait

    try:
        outcome = run_config(loaded, address, err, only or (), first, allow_mixed)
    except KeyboardInterrupt:
        err.print("raybt: stopped; what is committed stays, and the same command goes on from there")
        raise typer.Exit(STOPPED) from None
    show.outcome(out, outcome)
    if outcome.cause:
        _complain(outcome.cause)
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(config: ConfigFile, override: Overrides = None) -> None:
    """Count a run's rows and tokens by stage: done, missing, and what is not yet known. Needs no GPU, torch or Ray.

    [bold]raybt plan configs/phase2.yaml[/bold]
    """
    from raybt import show
    from raybt.fleet.standing import given, stand
    from raybt.load import load_config

    run_of = given(load_config(config, override or ()))
    show.plan(out, stand(run_of).plan, run_of.folder)


@app.command()
def vectors(
    config: ConfigFile,
    override: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on (auto inside one); without it, a private local Ray.")
    ] = None,
) -> None:
    """Make the vectors that a config's grids use, from its own baseline, and keep them with the run.

    [bold]raybt vectors configs/steering.yaml[/bold]
    """
    from raybt import show
    from raybt.load import load_config

    loaded = load_config(config, override or ())
    from raybt.fleet.vectors import make_vectors

    show.vectors(out, make_vectors(loaded, address, err))


@app.command()
def status(run: RunPath) -> None:
    """How far a run is, condition by condition.

    [bold]raybt status artifacts/demo[/bold]
    """
    from raybt import show
    from raybt.store.manifest import open_existing

    show.status(out, open_existing(run))


@app.command()
def report(run: RunPath) -> None:
    """Draw figures and report again from a run's tables.

    [bold]raybt report artifacts/demo[/bold]
    """
    from raybt.publish import publish
    from raybt.store.manifest import open_existing

    folder = open_existing(run)
    publish(folder)
    out.print(f"{folder.root}/report.html")


@app.command()
def submit(
    config: ConfigFile,
    override: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="The cluster's job server; else RAY_ADDRESS, else http://127.0.0.1:8265.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show the job's output and wait for its end.")] = False,
    allow_mixed: AllowMixed = False,
) -> None:
    """Send a run to a Ray cluster. Submitting it again resumes it.

    [bold]raybt submit configs/phase2.yaml --address http://127.0.0.1:8265 --follow[/bold]
    """
    from raybt.fleet.auth import use_token
    from raybt.load import load_config

    loaded = load_config(config, override or ())
    use_token()  # before Ray is imported
    from raybt.fleet import submit as jobs

    submitted = jobs.submit(loaded, address, allow_mixed)
    out.print(f"{submitted.job} submitted to {submitted.address}")
    if follow:
        raise typer.Exit(jobs.follow(submitted, lambda lines: print(lines, end="", flush=True)))
    out.print(f"follow it: ray job logs --address {submitted.address} --follow {submitted.job}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a config, so that an editor can complete it.

    [bold]raybt schema > raybt.schema.json[/bold]
    """
    from raybt.load import schema_json

    print(schema_json())


@app.command()
def doctor(
    smoke: Annotated[bool, typer.Option("--smoke", help="Decode four rows with the shipped model.")] = False,
) -> None:
    """Say what this machine has, what is missing, and how to get it.

    [bold]raybt doctor --smoke[/bold]
    """
    from raybt.doctor import examine

    checks = examine(smoke)
    for check in checks:
        mark = (
            "[green]ok[/green]     "
            if check.ok
            else "[red]missing[/red]"
            if check.needed
            else "[yellow]absent[/yellow] "
        )
        out.print(f"{mark} {check.name}: {check.found}" + ("" if check.ok else f"\n        {check.fix}"))
    raise typer.Exit(FAILURE if any(check.needed and not check.ok for check in checks) else COMPLETE)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2, what broke one and 1."""
    load_dotenv(".env")  # HF_TOKEN, for gated models
    try:
        app()
    except (UserError, Failure) as error:
        _complain(str(getattr(error, "cause", error)))  # a Ray task's comes wrapped in the trace of another process
        sys.exit(error.exit_code)


def _complain(text: str) -> None:
    from rich.markup import escape

    err.print(f"[bold red]raybt:[/bold red] {escape(' '.join(text.split()))}")
