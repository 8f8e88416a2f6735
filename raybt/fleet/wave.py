"""One wave: all rows known together, of every condition, through one Ray Data execution."""

import secrets

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError
from rich.console import Console

from raybt.config import Config
from raybt.fleet.board import Snapshot, set_up
from raybt.fleet.cause import cause_of
from raybt.fleet.cluster import gpus_each
from raybt.fleet.crew import RESTARTS, Courier, Crew
from raybt.fleet.job import IN_FLIGHT, PROBES, TOKENS, Job, cut, parse_positions
from raybt.fleet.naming import with_rows_named
from raybt.fleet.progress import Display
from raybt.fleet.watching import watched
from raybt.plan.rows import Plan
from raybt.plan.sites import parse_canonical
from raybt.store.folder import RunFolder


def run_wave(
    plan: Plan,
    folder: RunFolder,
    work: pa.Table,
    state: Snapshot,
    console: Console | None = None,
    crew: Crew | None = None,
    name: str = "wave",
) -> None:
    """Run the rows of `work`; each is committed by the replica that ran it, whatever happens to the others.

    Args:
        state: kept up to date with what the replicas report, also where this raises; what ended the wave early is its
            `failure`.
        crew: replicas that may be up already, and stay up if all goes well; None hires some for this wave.
        name: for the display.

    Raises:
        UserError: a replica refused its input.
        KeyboardInterrupt: as from the terminal.
    """
    gpus_each(plan.config.replicas)  # a wish that can't be met is refused before anything is said to begin
    board, job, hired = set_up(), make_job(plan, folder), crew or Crew(plan.config.replicas)
    replicas = min(plan.config.replicas.count, work.num_rows)
    display = Display(name, work.num_rows, replicas, len(hired.members), console)
    error: BaseException | None = None
    try:
        with watched(board, folder, state, display, hired):
            error = execute(plan.config, job, board, work, hired)
    except BaseException:
        hired.dismiss()  # replicas still at work must not commit into the next wave's time
        raise
    finally:
        remove_tokens(folder)
        settle(state, error, plan)
    if crew is None or state.over:
        hired.dismiss()
    if state.refusal:
        raise state.refusal


def settle(state: Snapshot, error: BaseException | None, plan: Plan) -> None:
    """Name the rows that what went wrong concerns."""
    if error is not None and state.failure is None:
        state.failure = cause_of(error, "the wave ended early")
    state.deaths = [with_rows_named(cause, plan) for cause in state.deaths]
    state.failure = state.failure and with_rows_named(state.failure, plan)


def execute(config: Config, job: Job, board, work: pa.Table, crew: Crew) -> Exception | None:
    """Run the Ray Data pipeline to its end; the error that ended it early, if any."""
    replicas = min(config.replicas.count, work.num_rows)
    blocks = cut(work, replicas, job.slots, prefix=secrets.token_hex(4))
    in_flight = min(IN_FLIGHT, -(-len(blocks) // replicas))  # a few blocks: one replica must not take them all
    stream = ray.data.from_arrow(blocks).map_batches(
        Courier,
        fn_constructor_args=(job, board, crew.hire(replicas)[:replicas]),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.ActorPoolStrategy(
            min_size=replicas, max_size=replicas, max_tasks_in_flight_per_actor=in_flight
        ),
        max_concurrency=in_flight,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
    )
    try:
        for _ in stream.iter_batches(batch_size=None, batch_format="pyarrow"):
            pass
    except (RayError, RuntimeError, ValueError) as error:
        return error
    return None


def make_job(plan: Plan, folder: RunFolder) -> Job:
    name, content = f"{TOKENS}driver-{secrets.token_hex(8)}", secrets.token_hex(16)
    folder.commit(name, content.encode())
    config, facts = plan.config, plan.facts
    return Job(
        root=folder.root,
        model=config.model,
        path=facts.path,
        revision=facts.revision,
        fingerprint=facts.fingerprint,
        sampling=config.sampling,
        slots=config.replicas.slots,
        threads=max(1, int(config.replicas.cpus)),
        length=longest(plan),
        token=(name, content),
        triggers=triggers_of(plan),
        sites_of=vector_sites(plan),
        measures=measures_of(config),
    )


def longest(plan: Plan) -> int:
    """Tokens of the longest row, what it reads and what it writes."""
    most = int(plan.prompt_lengths.max()) + plan.config.sampling.max_new_tokens
    continued = plan.work.filter(pc.field("kind") == "continuation").select(["prompt", "token", "max_new_tokens"])
    begun = plan.texts["prompt_tokens"].to_pylist()
    return max([most, *(begun[row["prompt"]] + row["token"] + row["max_new_tokens"] for row in continued.to_pylist())])


def triggers_of(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """The n-grams that any condition waits for; one list serves all, since they come from one config."""
    found = {parse_positions(text)[2] for text in plan.conditions["positions"].to_pylist()}
    return next((triggers for triggers in found if triggers), ())


def measures_of(config: Config) -> tuple[str, ...]:
    """What the run will ask of the model, in whatever wave: a refusal must not wait for the stage that earns it."""
    kinds = {stage.kind for stage in config.stages.values()}
    return ("decode", *(kind for kind in PROBES if kind in kinds))


def vector_sites(plan: Plan) -> dict[str, str]:
    terms = (term for text in plan.conditions["intervention"].to_pylist() for term in parse_canonical(text))
    return {term.vector: term.site for term in terms if term.vector is not None}


def remove_tokens(folder: RunFolder) -> None:
    for name, _ in folder.list():
        if name.startswith(TOKENS):
            folder.remove(name)
