"""The `rayline` command: run, plan, sweep, submit, show, serve, infer, doctor, schema, ui, stages.

Only what a verb needs is imported when it runs, so `--help`, `plan`, `schema` and `show` start fast
and import none of ray, torch, transformers, mlflow. Exit codes: see `core/errors.py`; 130 when
interrupted (the same command continues).
"""

import contextlib
import json
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.core.errors import ConfigError, DataError, RaylineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.core.artifact import Artifact
    from pipelines.core.config import Config, Placement, StageConfig
    from pipelines.core.sweep import Point, Score
    from pipelines.core.workflow import Workflow

STAGES = ("corpus", "tokenizer", "tokens", "train", "evaluate", "compress", "export")
INTERRUPTED = 130

app = typer.Typer(
    name="rayline",
    help="Raw text to an autoscaled endpoint of a compressed language model, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

data = typer.Typer(help="Look into a Corpus.", no_args_is_help=True)
app.add_typer(data, name="data")

Settings = Annotated[list[str] | None, typer.Argument(help="key=value or step.field=value")]
Storage = Annotated[str, typer.Option(envvar="RAYLINE_STORAGE", help="root of all artifacts")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of the same settings")]
Address = Annotated[str | None, typer.Option(help="Ray address; none starts a local Ray")]
Workers = Annotated[int, typer.Option(min=1, help="processes of a training step")]
WorkerCpus = Annotated[int, typer.Option(min=1, help="CPUs, and threads, of each of them")]
Cpus = Annotated[int | None, typer.Option(min=1, help="CPUs of the local Ray")]
FreshCode = Annotated[bool, typer.Option("--fresh-code", help="rerun steps whose code has changed")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.command()
def run(
    workflow: Annotated[str, typer.Argument(help="a workflow's name or .py file")],
    settings: Settings = None,
    config: ConfigFile = None,
    storage: Storage = "runs",
    address: Address = None,
    workers: Workers = 2,
    worker_cpus: WorkerCpus = 1,
    cpus: Cpus = None,
    fresh_code: FreshCode = False,
    as_json: AsJson = False,
) -> None:
    """Make every artifact of a workflow, reusing those already made."""
    from pipelines.core import recipe

    flow = recipe.load(workflow, settings or [], config)
    placement = _placement(storage, address, cpus, workers, worker_cpus)
    made = _run(flow, placement, fresh_code)
    _print_result(flow, made, workflow, placement, as_json)


@app.command()
def plan(
    workflow: Annotated[str, typer.Argument(help="a workflow's name or .py file")],
    settings: Settings = None,
    config: ConfigFile = None,
    storage: Storage = "runs",
    address: Address = None,  # noqa: ARG001 (accepted so that a run's line can be planned)
    workers: Workers = 2,
    worker_cpus: WorkerCpus = 1,  # noqa: ARG001 (likewise)
    cpus: Cpus = None,  # noqa: ARG001 (likewise)
    fresh_code: FreshCode = False,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do, step by step, and why; start nothing."""
    from pipelines.core import console, recipe
    from pipelines.core.plan import plan as plan_of
    from pipelines.core.storage import Store
    from pipelines.train.forecast import forecasts

    flow = recipe.load(workflow, settings or [], config)
    steps = plan_of(flow, Store.at(storage), fresh_code=fresh_code)
    if as_json:
        rows = [{"step": s.name, "action": s.action, "reason": s.reason} for s in steps]
        print(json.dumps(rows, indent=1))
        return
    print(console.plan_table(steps))
    for line in forecasts(steps, storage, workers):
        print(line)
    pending = sum(step.action == "RUN" for step in steps)
    print(f"\n{pending} of {len(steps)} steps run. Next: the same with `run` in place of `plan`")


@app.command()
def sweep(
    workflow: Annotated[str, typer.Argument(help="a workflow's name or .py file")],
    settings: Annotated[
        list[str], typer.Argument(help="step.field=value,value for what varies; key=value else")
    ],
    config: ConfigFile = None,
    until: Annotated[
        str | None, typer.Option(help="last step of a point; none: the last one that varies")
    ] = None,
    by: Annotated[str, typer.Option(help="metric of that step the table is sorted by")] = "loss",
    highest: Annotated[
        bool | None, typer.Option("--highest/--lowest", help="which is best; none: by its name")
    ] = None,
    planned: Annotated[bool, typer.Option("--plan", help="print the grid, start nothing")] = False,
    storage: Storage = "runs",
    address: Address = None,
    workers: Workers = 2,
    worker_cpus: WorkerCpus = 1,
    cpus: Cpus = None,
    as_json: AsJson = False,
) -> None:
    """Run a grid of settings as ordinary workflows in one store; ends in one sorted table."""
    from pipelines.core import sweep as grid
    from pipelines.core.plan import plan as plan_of
    from pipelines.core.storage import Store
    from pipelines.train.forecast import forecasts

    store = Store.at(storage)
    found = grid.points(workflow, settings, config, until)
    plans = [plan_of(point.flow, store) for point in found]
    left = [sum(step.action == "RUN" for step in steps) for steps in plans]
    print(f"{len(found)} points, {sum(map(bool, left))} to run:", file=sys.stderr)
    for point, steps, count in zip(found, plans, left, strict=True):
        print(f"  {point}: {f'{count} steps run' if count else 'made'}", file=sys.stderr)
        for line in forecasts(steps, storage, workers)[-1:]:
            print(f"    {line}", file=sys.stderr)
    if planned:
        return
    scores = _swept(found, by, _placement(storage, address, cpus, workers, worker_cpus))
    scores = grid.ranked(scores, by, highest)
    kept = grid.keep(scores, by, found[0].flow.name, store)
    if as_json:
        print(store.read(kept.removeprefix(f"{store.uri}/")).decode())
    else:
        print(f"\n{grid.render(scores, by)}\n\nthe same as JSON: {kept}")
    if all(score.value is None for score in scores):
        raise DataError(f"no point has a {by}: {scores[0].error}")


@app.command()
def submit(
    workflow: Annotated[str, typer.Argument(help="a workflow's name")],
    settings: Settings = None,
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="the dashboard, http://host:8265")
    ] = "http://127.0.0.1:8265",
    storage: Storage = "runs",
    workers: Workers = 2,
    worker_cpus: WorkerCpus = 1,
    wait: Annotated[bool, typer.Option(help="follow the job's log until it ends")] = True,
) -> None:
    """Send a workflow to a Ray cluster through Ray Jobs."""
    import shlex
    import uuid

    from pipelines.core import cluster, recipe
    from pipelines.core.config import nearest
    from pipelines.core.storage import Store

    if workflow not in recipe.names():
        hint = nearest(workflow, recipe.names())
        raise ConfigError(f"{workflow}: expected a workflow of workflows/, which is sent; {hint}")
    recipe.load(workflow, settings or [])  # a wrong setting fails here, not on the cluster
    root = Store.at(storage).uri
    command = ["python", "-m", f"workflows.{workflow}", *(settings or [])]
    command += ["--storage", root, "--workers", str(workers), "--worker-cpus", str(worker_cpus)]
    name = f"{workflow}-{uuid.uuid4().hex[:8]}"
    passed = {key: os.environ[key] for key in _FORWARDED if key in os.environ}
    job = cluster.submit(
        shlex.join(command), address, folder=_project(), name=name, environment=passed
    )
    print(f"submitted {job} to {address}; its log: ray job logs -f {job} --address {address}")
    try:
        succeeded = not wait or cluster.follow_job(job, address, partial(print, end=""))
    except KeyboardInterrupt:
        raise RaylineError(
            f"{job} goes on without us; follow it: ray job logs -f {job} --address {address}; "
            f"stop it: ray job stop {job} --address {address}"
        ) from None
    if not succeeded:
        raise RaylineError(f"{job} failed; the same command continues from what it finished")


@app.command()
def show(
    target: Annotated[str, typer.Argument(help="an artifact's path, or a step's name")],
    storage: Storage = "runs",
    as_json: AsJson = False,
) -> None:
    """Walk from an artifact back through everything it was made from to the raw files."""
    from pipelines.core import lineage
    from pipelines.core.storage import Store

    store = Store.at(storage)
    artifact = lineage.find(target, store)
    tree = lineage.ancestors(artifact, store)
    print(json.dumps(lineage.plain(tree), indent=1) if as_json else lineage.render(tree))


@app.command()
def serve(
    target: Annotated[
        str, typer.Argument(help="a Model or Bundle: its path, or a workflow's name")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="port=8001 max_replicas=4 ...")
    ] = None,
    storage: Storage = "runs",
    address: Address = None,
    check: Annotated[str | None, typer.Option(help="send this text once, print, stop")] = None,
) -> None:
    """Serve a compressed model behind an autoscaled HTTP endpoint."""
    from pipelines.core import cluster
    from pipelines.core.config import assignment, parse
    from pipelines.serve import client
    from pipelines.serve.config import ServeConfig

    config = parse(ServeConfig, dict(map(assignment, settings or [])), "command line")
    artifact = _servable(target, storage)
    with cluster.session(_placement(storage, address)):
        from pipelines.serve import stage

        url = stage.run(artifact, config)
        try:
            if check is not None:
                print(client.curl(url, check))
                print(json.dumps(client.ask(url, check), indent=1))
                return
            print(f"serving {artifact.uri} at {url} (Ctrl-C stops it). Try:")
            print(client.curl(url, "some text"), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        finally:
            stage.shutdown()


@app.command()
def infer(
    model: Annotated[str, typer.Argument(help="a Model or Bundle: its path, or a workflow's name")],
    files: Annotated[list[str], typer.Argument(help="JSON lines, Parquet or text files")],
    text: Annotated[str, typer.Option(help="field that holds the text")] = "text",
    name: Annotated[str, typer.Option(help="the step's name in the store")] = "predictions",
    storage: Storage = "runs",
    address: Address = None,
    cpus: Cpus = None,
) -> None:
    """Predict on files in bulk: rows in input order, each exactly once, resumable."""
    from pipelines.core.workflow import Workflow
    from pipelines.infer.config import InferConfig

    flow = Workflow("infer")
    config = InferConfig(model=_servable(model, storage).uri, files=tuple(files), text=text)
    flow.add(name, config)
    placement = _placement(storage, address, cpus)
    made = _run(flow, placement, fresh_code=False)
    _print_result(flow, made, "infer", placement, as_json=False)


@app.command()
def doctor(storage: Storage = "runs", address: Address = None) -> None:
    """Check versions, ports, the auth token and the storage; print the command that fixes each."""
    from pipelines.core import doctor as checks

    results = checks.examine(storage, address)
    for result in results:
        print(f"{'ok  ' if result.ok else 'FAIL'}  {result.what}: {result.found}")
        if not result.ok:
            print(f"      fix: {result.fix}")
    if not all(result.ok for result in results):
        raise typer.Exit(ConfigError.exit_code)


@app.command()
def schema(
    target: Annotated[str, typer.Argument(help="a stage, a workflow, or `serve`")],
) -> None:
    """Print the JSON Schema of a stage's or a workflow's settings."""
    from pipelines.core import recipe
    from pipelines.core.config import nearest
    from pipelines.serve.config import ServeConfig

    config: type[Config]
    if target == "serve":
        config = ServeConfig
    elif target in (*STAGES, "infer"):
        config = _stage_config(target)
    elif target in recipe.names():
        config = recipe.settings(target)
    else:
        known = [*STAGES, "infer", "serve", *recipe.names()]
        raise ConfigError(f"no stage or workflow {target!r}; {nearest(target, known)}")
    print(json.dumps(config.model_json_schema(), indent=1))


@app.command()
def ui(
    storage: Storage = "runs", port: Annotated[int, typer.Option(help="port bound")] = 5000
) -> None:
    """Open MLflow's web page on the store's runs, datasets and models."""
    from pipelines.core.storage import Store
    from pipelines.core.tracking import SQLITE, tracking_uri

    uri = tracking_uri(Store.at(storage))
    if not uri.startswith(SQLITE):
        raise ConfigError(f"MLFLOW_TRACKING_URI={uri} is a server: open it in a browser")
    database = Path(uri.removeprefix(SQLITE))
    if not database.exists():
        raise ConfigError(f"{database}: nothing recorded there yet; run a workflow first")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", uri]
    command += ["--default-artifact-root", str(database.parent / "mlflow-artifacts")]
    print(f"MLflow at http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    os.execv(sys.executable, command)


@data.command()
def rejects(
    corpus: Annotated[str, typer.Argument(help="a Corpus: its path, or a step's name")],
    reason: Annotated[str, typer.Option(help="a reason or rule, or how it begins")] = "",
    limit: Annotated[int, typer.Option(min=1, help="records shown")] = 20,
    storage: Storage = "runs",
    as_json: AsJson = False,
) -> None:
    """Show what a corpus left out, and why."""
    from pipelines.corpus import browse

    for row in browse.rejects(_corpus(corpus, storage), reason, limit):
        print(json.dumps(row, ensure_ascii=False) if as_json else browse.shown(row))


@data.command()
def inspect(
    corpus: Annotated[str, typer.Argument(help="a Corpus: its path, or a step's name")],
    document: Annotated[str | None, typer.Argument(help="a document's id, <file>:<row>")] = None,
    storage: Storage = "runs",
) -> None:
    """Show one document of a corpus, or where all of them went."""
    from pipelines.corpus import browse

    artifact = _corpus(corpus, storage)
    if document is None:
        print(browse.funnel(artifact))
        return
    folder, row = browse.document(artifact, document)
    print(f"{folder}: {browse.shown(row, 0)}\n\n{row.get('text') or ''}")


def _stage_verb(stage: str) -> None:
    """Register a verb that runs one stage alone from a config file and settings."""

    def verb(
        settings: Settings = None,
        config: ConfigFile = None,
        name: Annotated[str, typer.Option(help="the step's name in the store")] = stage,
        storage: Storage = "runs",
        address: Address = None,
        workers: Workers = 2,
        worker_cpus: WorkerCpus = 1,
        cpus: Cpus = None,
    ) -> None:
        from pipelines.core.config import assignment, origin, parse, put, read_yaml
        from pipelines.core.workflow import Workflow

        data = read_yaml(config) if config else {}
        assigned = [assignment(text) for text in settings or []]
        for key, value in assigned:
            put(data, key, value)
        where = origin(config, [key for key, _ in assigned])
        flow = Workflow(name)
        flow.add(name, parse(_stage_config(stage), data, where))
        placement = _placement(storage, address, cpus, workers, worker_cpus)
        made = _run(flow, placement, fresh_code=False)
        _print_result(flow, made, stage, placement, as_json=False)

    verb.__doc__ = f"Run the {stage} stage alone; its settings: rayline schema {stage}."
    app.command(name=stage)(verb)


for _stage in STAGES:
    _stage_verb(_stage)

_FORWARDED = (
    "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION", "HF_TOKEN",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Entry point: one readable message and a documented exit code on every error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app(args=arguments, standalone_mode=False)
    except RaylineError as error:
        print(f"rayline: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("rayline: interrupted; the same command continues from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not _is_usage(error):
            raise
        print(f"rayline: {_usage(error)}", file=sys.stderr)
        sys.exit(ConfigError.exit_code)


def _is_usage(error: Exception) -> bool:
    """Whether this is the argument parser's own complaint."""
    return hasattr(error, "format_message")


def _usage(error: Any) -> str:
    return f"{error.format_message()} (see rayline --help)"


def _placement(
    storage: str,
    address: str | None,
    cpus: int | None = None,
    workers: int = 1,
    worker_cpus: int = 1,
) -> "Placement":
    from pipelines.core.config import Placement

    return Placement(
        storage=storage, address=address, cpus=cpus, workers=workers, worker_cpus=worker_cpus
    )


def _run(flow: "Workflow", placement: "Placement", fresh_code: bool) -> "dict[str, Artifact]":
    """Run a workflow's steps, told to the terminal and to MLflow."""
    from pipelines.core import cluster, tracking
    from pipelines.core.console import Console
    from pipelines.core.run import run as run_of
    from pipelines.core.workflow import check_sources, snapshot
    from pipelines.train.forecast import Forecaster

    check_sources(flow)
    with tracking.open_tracker(flow.name, placement.storage, snapshot(flow)) as tracker:
        return run_of(
            flow,
            placement,
            [Console(len(flow.steps)), Forecaster(placement), tracker],
            session=cluster.session,
            fresh_code=fresh_code,
        )


def _swept(found: "Sequence[Point]", by: str, placement: "Placement") -> "list[Score]":
    """Make every point with one Ray and one MLflow parent run for all of them."""
    from pipelines.core import cluster, tracking
    from pipelines.core import sweep as grid
    from pipelines.core.console import Console
    from pipelines.core.run import run as run_of
    from pipelines.core.workflow import Observer, check_sources, snapshot
    from pipelines.train.forecast import Forecaster

    for point in found:
        check_sources(point.flow)
    first = found[0].flow
    with contextlib.ExitStack() as stack:
        settings = {str(point): snapshot(point.flow) for point in found}
        tracker = stack.enter_context(
            tracking.open_tracker(first.name, placement.storage, settings)
        )

        def session(asked: "Placement") -> contextlib.AbstractContextManager[None]:
            stack.enter_context(cluster.session(asked))  # the first one outlives its point
            return contextlib.nullcontext()

        def execute(point: "Point") -> "dict[str, Artifact]":
            print(f"{point}", file=sys.stderr)
            console = Console(len(point.flow.steps))
            observers: list[Observer] = [console, Forecaster(placement), tracker]
            return run_of(point.flow, placement, observers, session=session)

        return grid.run(found, by, execute)


def _print_result(
    flow: "Workflow", made: "dict[str, Artifact]", verb: str, placement: "Placement", as_json: bool
) -> None:
    from pipelines.core import console

    if as_json:
        rows = {name: {"uri": a.uri, "digest": a.digest} for name, a in made.items()}
        print(json.dumps(rows, indent=1))
    else:
        print(console.result(flow, made, verb, placement.storage))


def _servable(target: str, storage: str) -> "Artifact":
    """The Model or Bundle at a path, of a step, or what a workflow's `serve` step made.

    The latter with the workflow's own settings if there is one, or else the newest with others.
    """
    from pipelines.core import lineage, recipe
    from pipelines.core.artifact import open_artifact
    from pipelines.core.plan import plan as plan_of
    from pipelines.core.storage import Store

    store, workflow = Store.at(storage), ""
    if target in recipe.names() or target.endswith(".py"):
        flow = recipe.load(target, [])
        if flow.served is None:
            raise ConfigError(f"{target}: this workflow serves nothing; give a step or a path")
        with contextlib.suppress(DataError):  # the raw data need not be there to serve
            for step in plan_of(flow, store):
                if step.name == flow.served and step.artifact:
                    return step.artifact
        target, workflow = flow.served, flow.name
    artifact = open_artifact(lineage.find(target, store, workflow).uri, ("Model", "Bundle"))
    artifact.verify()
    return artifact


def _corpus(target: str, storage: str) -> "Artifact":
    from pipelines.core import lineage
    from pipelines.core.artifact import open_artifact
    from pipelines.core.storage import Store

    return open_artifact(lineage.find(target, Store.at(storage)).uri, ("Corpus",))


def _stage_config(stage: str) -> "type[StageConfig]":
    """The settings class of a stage."""
    import importlib

    module = importlib.import_module(f"pipelines.{stage}.config")
    config: type[StageConfig] = getattr(module, f"{stage.capitalize()}Config")
    return config


def _project() -> Path:
    return Path(__file__).parent.parent


if __name__ == "__main__":
    main()
