"""One wave: all rows known together, of every condition, through one Ray Data execution."""

import secrets

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError
from rich.console import Console

from raybt.config import Config
from raybt.fleet.board import Board, Snapshot
from raybt.fleet.crew import RESTARTS, Courier, Crew
from raybt.fleet.job import IN_FLIGHT, TOKENS, Job, cut, parse_positions
from raybt.fleet.progress import watched
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
) -> None:
    """Run the rows of `work`; each is committed by the replica that ran it, whatever happens to the others.

    Args:
        state: kept up to date with what the replicas report, also where this raises.
        crew: replicas that may be up already, and stay up if all goes well; None hires some for this wave.

    Raises:
        UserError: a replica refused its input.
        KeyboardInterrupt: as from the terminal.
    """
    board, job, hired = Board.remote(), make_job(plan, folder), crew or Crew(plan.config.replicas)
    error: BaseException | None = None
    try:
        with watched(board, folder, work.num_rows, state, console):
            error = execute(plan.config, job, board, work, hired)
    except BaseException:
        hired.dismiss()  # replicas still at work must not commit into the next wave's time
        raise
    finally:
        remove_tokens(folder)
    if crew is None or error is not None or state.refusal:
        hired.dismiss()
    if state.refusal:
        raise state.refusal
    if error is not None:
        state.notes.append(f"the wave ended early: {_first_line(error)}")


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


def vector_sites(plan: Plan) -> dict[str, str]:
    terms = (term for text in plan.conditions["intervention"].to_pylist() for term in parse_canonical(text))
    return {term.vector: term.site for term in terms if term.vector is not None}


def remove_tokens(folder: RunFolder) -> None:
    for name, _ in folder.list():
        if name.startswith(TOKENS):
            folder.remove(name)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
