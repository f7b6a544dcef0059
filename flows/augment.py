"""The parent flow: plan, one task for each shard, commit."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import Task, flow, get_client, task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from flows.dispatch import Limits, cancel_children, reap_tasks
from flows.execution import Access, Execution, Job, Placement, open_execution
from flows.form import AugmentForm, asks, run_title
from flows.lease import at_work
from flows.places import Places
from flows.progress import Progress, shard_line
from flows.results import RETRY, Results, publish
from kaleidoscope.card import refresh_card
from kaleidoscope.errors import KaleidoscopeError, PlanError, RunError
from kaleidoscope.listing import check_apart
from kaleidoscope.manifest import ShardStats
from kaleidoscope.memory import predict_peak_bytes
from kaleidoscope.pipeline import commit_run, make_plan, pending_shards, start_run
from kaleidoscope.planning import Plan
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Report, Run, list_runs, load_request
from kaleidoscope.settings import available_cpus
from kaleidoscope.stores import Store
from kaleidoscope.summary import describe_idle, describe_plan

MOST = 10
"""Shards that an error or a report names."""


def title() -> str:
    """Return the name of the current flow run: the data set and the recipe."""
    form = AugmentForm(**flow_run.parameters)
    return run_title(form.source, form.recipe_name)


def is_worth_another_try(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Say whether a shard that failed may succeed when it is run again."""
    error = state.result(raise_on_failure=False)
    # What is not ours comes from a library below, such as Prefect's client, and may pass.
    return not isinstance(error, KaleidoscopeError) or error.retryable


@task(
    name="shard",
    task_run_name="shard-{shard:05d}",
    retries=3,
    # Two processes report a death, up to 15 s apart, and the later report would hit a new try.
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_worth_another_try,
    cache_policy=NO_CACHE,
)
def do_shard(shard: int, execution: Execution) -> ShardStats:
    """Return when the shard's part is in the store, wherever it is run."""
    stats = execution.run_shard(shard)
    get_run_logger().info(shard_line(shard, stats))
    return stats


@flow(name="augment", flow_run_name=title, on_cancellation=[cancel_children])
@asks(AugmentForm)
def augment(form: AugmentForm) -> Report:
    """Make a large image data set from a small one, and record where every image came from.

    A run that was interrupted is taken up where it stopped, by starting it again with the same
    source, destination and recipe. A run that is complete makes the images of new sources only.
    The parameters are the fields of :class:`~flows.form.AugmentForm`.

    Returns:
        What the run did; if nothing was missing, what the run before did.

    Raises:
        KaleidoscopeError: If the run cannot be started, or not be finished; the message says why,
            and what is done is kept.
    """
    places = form.places()
    recipe = form.to_recipe(places)
    sources, outputs = places.open(form.source), places.open(form.destination)
    check_apart(sources, outputs)  # Before anything is written among the photographs.
    with at_work(outputs, wait_s=60 * form.wait_minutes) as lease:
        run = start(form, sources, outputs, recipe)
        setbacks: list[str] = []
        if pending := pending_shards(outputs, run):
            job = Job(sources, outputs, run, UUID(flow_run.id))
            setbacks = do_shards(job, pending, placement(form, places))
        # Opened again, since credentials of a role may have expired over the shards.
        outputs = form.places().open(form.destination)
        lease.check()
        report = commit_run(outputs, run, now=datetime.now(UTC))
        if (trouble := refresh_card(outputs)) is not None:
            get_run_logger().warning("%s", trouble)
    results = Results(run, report, setbacks, form.recipe_name)
    publish(results, form.places().open(form.source), outputs)
    # What an earlier run made of its sources was judged then.
    if run.plan.num_shards:
        refuse_failures(report, recipe.limits.max_error_rate)
    return report


def start(form: AugmentForm, source: Store, destination: Store, recipe: Recipe) -> Run:
    """Start or take up a run, and say in the log what it is going to do.

    Raises:
        PlanError: If the form forbids it: something is there already, or too much would be made.
    """
    logger = get_run_logger()
    if form.existing == "refuse":
        refuse_existing(destination)
    options = form.start_options()
    if form.limits.max_images is not None:
        plan = make_plan(source, destination, recipe, options=replace(options, num_measured=0))
        refuse_too_many(plan, form.limits.max_images)
    run = start_run(source, destination, recipe, now=datetime.now(UTC), options=options)
    if run.plan.num_shards:
        peak_bytes = predict_peak_bytes(
            recipe,
            workers=available_cpus(),
            largest_source_bytes=run.plan.largest_source_bytes,
        )
        # In this process there are no more CPUs than it has; a replica elsewhere has one at least.
        cpus = available_cpus() if form.execution == "local" else form.replicas
        text = describe_plan(run.plan, cpus=cpus, peak_bytes=peak_bytes)
        logger.info("Run %s\n%s", run.run_id, text)
    else:
        logger.info("%s", describe_idle(run.plan, retry=RETRY))
    return run


def refuse_existing(destination: Store) -> None:
    """Refuse a destination that holds a run; not one that an earlier try of this flow run made.

    Raises:
        PlanError: If there is one.
    """
    runs = list_runs(destination)
    if runs and flow_run.run_count > 1:
        with get_client(sync_client=True) as client:
            created = client.read_flow_run(UUID(flow_run.id)).created
        runs = tuple(
            run
            for run in runs
            if created is None or load_request(destination, run.run_id).created_at < created
        )
    if runs:
        raise PlanError(
            f"existing is refuse, and {destination.uri} holds run {runs[-1].run_id}; choose "
            "another destination, or only-new"
        )


def placement(form: AugmentForm, places: Places) -> Placement:
    """Return where the form wants the shards to be done."""
    return Placement(
        form.execution,
        form.replicas,
        form.shard_deployment,
        Limits(timedelta(seconds=form.pending_limit_s), timedelta(seconds=form.shard_time_limit_s)),
        Access(
            places.address(form.source),
            places.address(form.destination),
            form.aws_credentials or None,
            form.endpoint_url or None,
        ),
    )


def do_shards(job: Job, pending: Sequence[int], where: Placement) -> list[str]:
    """Run shards, ``where.replicas`` at a time, and return when their parts are there.

    Returns:
        What went wrong and was made good, a sentence for each try that came to nothing.

    Raises:
        RunError: If some could not be done; the message names them and says why.
    """
    with get_client(sync_client=True) as client:
        if flow_run.run_count > 1:
            reap_tasks(client, job.flow_run_id)
        progress = Progress(client, job.run, num_pending=len(pending))
        runner = ThreadPoolTaskRunner[ShardStats](max_workers=where.replicas)
        with (
            runner as threads,
            open_execution(job, progress, client, where) as execution,
        ):
            parameters = {"shard": list(pending), "execution": unmapped(execution)}
            futures = threads.map(do_shard, parameters)
            errors = {
                shard: error_in(future) for shard, future in zip(pending, futures, strict=True)
            }
        progress.publish()
    if missing := pending_shards(job.destination, job.run):
        reasons = "\n".join(f"  shard {shard}: {errors.get(shard)}" for shard in missing[:MOST])
        raise RunError(
            f"run {job.run.run_id} is not finished: {len(missing)} of "
            f"{job.run.plan.num_shards} shards are not done, among them\n{reasons}\nWhat is done "
            "is kept. Start the run again with the same parameters to do the rest"
        )
    return execution.setbacks


def error_in(future: PrefectFuture[Any]) -> str | None:
    """Return in words why a task failed, when it has ended; None if it did not."""
    future.wait()
    if future.state.is_completed():
        return None
    error = future.state.result(raise_on_failure=False)
    return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(future.state)


def refuse_failures(report: Report, max_error_rate: float) -> None:
    """Let a run fail that is committed.

    Raises:
        RunError: If a larger share of the sources failed than is allowed.
    """
    if report.error_rate > max_error_rate:
        raise RunError(
            f"{report.num_failed} of {report.num_sources + report.num_done} sources failed, more "
            f"than the max_error_rate of {max_error_rate:.0%}; the images of the others are "
            "committed. Once the cause is gone, existing=retry-failed does those that failed again"
        )


def refuse_too_many(plan: Plan, max_images: int) -> None:
    """Refuse a plan before anything is written.

    Raises:
        PlanError: If it would make more images than are allowed.
    """
    if plan.num_outputs > max_images:
        each = plan.per_source.num_outputs
        share = f"{each:,} of each of {plan.num_sources:,} photographs"
        if plan.num_outputs != plan.num_sources * each:
            share = f"some of the {each:,} in the tree of each of {plan.num_sources:,} photographs"
        raise PlanError(
            f"limits.max_images is {max_images:,}, and this run would make {plan.num_outputs:,} "
            f"images, {share}; "
            "raise it, or set selection.max_outputs_per_source"
        )
