"""What a person sees: progress on a terminal, plain lines in a log, tables at the end."""

import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from pipelines.core.artifact import Artifact
from pipelines.core.config import Json, StageConfig
from pipelines.core.plan import Planned
from pipelines.core.workflow import Workflow

LOG_EVERY_S = 10.0  # seconds between progress lines of one step, off a terminal
SHOWN = (
    "loss", "masked_accuracy", "token_accuracy", "label_accuracy", "validation_loss",
    "useful_tokens_per_s", "mfu", "loader_wait", "documents", "rows",
)  # fmt: skip
COMPARED = (
    ("accuracy (95 %)", "accuracy", ".3f"),
    ("macro F1", "f1_macro", ".3f"),
    ("loss (95 %)", "loss", ".3f"),
    ("perplexity", "perplexity", ".1f"),
    ("bits a byte", "bits_per_byte", ".3f"),
    ("MB", "size_mb", ".2f"),
    ("ms a text", "latency_ms", ".2f"),
)  # head, figure and format of each column of reports side by side
METRICS = ("accuracy", "loss", "agreement", "max_logit_difference")  # first found is shown


class Console:
    """An Observer that prints: a live line on a terminal, a plain one now and then elsewhere."""

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self.total = total
        self.done = 0
        self.began = 0.0
        self.last = 0.0

    def started(self, name: str, config: StageConfig, made_from: Mapping[str, Artifact]) -> None:
        """Announce a step."""
        self.began = self.last = time.monotonic()
        sources = ", ".join(sorted({source.manifest.name for source in made_from.values()}))
        self._print(
            f"[{self.done + 1}/{self.total}] {name}: {config.stage} from {sources or 'files'}"
        )

    def progress(self, name: str, facts: Json) -> None:
        """Show a running step's numbers."""
        now = time.monotonic()
        if not self.live and now - self.last < LOG_EVERY_S:
            return
        self.last = now
        line = f"      {name} {now - self.began:.0f}s  {bar(facts)}" + "  ".join(
            f"{key} {figure(facts[key])}" for key in SHOWN if key in facts
        )
        if self.live:
            self.stream.write(f"\r\x1b[2K{line[:118]}")
            self.stream.flush()
        else:
            self._print(line)

    def finished(
        self,
        name: str,
        artifact: Artifact,
        made_from: Mapping[str, Artifact],  # noqa: ARG002 (part of the Observer role)
    ) -> None:
        """Say what a step made and where."""
        self.done += 1
        facts = artifact.manifest
        counts = "  ".join(f"{key} {value:,}" for key, value in list(facts.counts.items())[:4])
        self._print(f"      {name} done in {facts.seconds:.1f}s  {counts}  {artifact.uri}")

    def reused(self, name: str, artifact: Artifact) -> None:
        """Say that a step was not needed."""
        self.done += 1
        self._print(f"[{self.done}/{self.total}] {name}: reused {artifact.uri}")

    def failed(self, name: str, error: BaseException) -> None:
        """Say which step failed; the error itself is printed once, by the CLI."""
        self._print(f"      {name} stopped: {type(error).__name__}")

    def _print(self, line: str) -> None:
        if self.live:
            self.stream.write("\r\x1b[2K")
        print(line, file=self.stream, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain-text table; columns whose cells are all figures are right-aligned."""
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *body]) for i in range(len(header))]
    right = [
        all(row[i][:1].isdigit() or row[i] in ("", "-") for row in body) for i in range(len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if flag else cell.ljust(width)
            for cell, width, flag in zip(cells, widths, right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, body)])


def plan_table(steps: Sequence[Planned]) -> str:
    """A plan: each step, REUSE or RUN, why, and what a run of it is expected to cost."""
    rows = [
        [step.name, step.config.stage, step.action, step.config.estimate(), step.reason]
        for step in steps
    ]
    return table(["step", "stage", "action", "work", "why"], rows)


def step_table(made: Mapping[str, Artifact]) -> str:
    """Every step's artifact: rows, tokens, seconds, a metric, and its path."""
    return table(
        ["step", "kind", "rows", "tokens", "seconds", "metric", "path"],
        [_step_row(name, artifact) for name, artifact in made.items()],
    )


def comparison_table(reports: Mapping[str, Artifact]) -> str:
    """Reports side by side: the figures of `COMPARED` that any of them has."""
    facts = [report.manifest.metrics | report.manifest.measured for report in reports.values()]
    shown = [column for column in COMPARED if any(column[1] in known for known in facts)]
    rows = [
        [title, *(_cell(known, key, form) for _, key, form in shown)]
        for title, known in zip(reports, facts, strict=True)
    ]
    return table(["model", *(head for head, _, _ in shown)], rows)


def bar(facts: Json, width: int = 24) -> str:
    """A progress bar, where the numbers say how far the step is."""
    step, steps = facts.get("step"), facts.get("steps")
    if not step or not steps:
        return ""
    full = round(width * step / steps)
    return f"[{'#' * full}{'.' * (width - full)}] {step}/{steps}  "


def result(flow: Workflow, made: Mapping[str, Artifact], verb: str, storage: str) -> str:
    """What a run ends with: every step, the compared reports, where all is, what to type next."""
    blocks = ["", step_table(made)]
    if flow.compared:
        reports = {title: made[step] for title, step in flow.compared.items()}
        blocks += ["", comparison_table(reports)]
    where = "" if storage == "runs" else f" --storage {shlex.quote(storage)}"
    blocks += ["", f"everything is in {storage}; next:"]
    if flow.served:
        blocks.append(f"  rayline serve {verb}{where} --check {shlex.quote(flow.example)}")
    blocks.append(f"  rayline show {flow.served or list(made)[-1]}{where}")
    blocks.append(f"  rayline ui{where}")
    return "\n".join(blocks)


def figure(value: object) -> str:
    """A number as a person reads it."""
    if isinstance(value, float):
        if value >= 1000:
            return f"{value:,.0f}"
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _step_row(name: str, artifact: Artifact) -> list[str]:
    facts = artifact.manifest
    metric = next((key for key in METRICS if key in facts.metrics), None)
    rows = next((facts.counts[key] for key in ("kept", "rows") if key in facts.counts), None)
    return [
        name,
        artifact.kind,
        "-" if rows is None else f"{rows:,}",
        f"{facts.counts['tokens']:,}" if "tokens" in facts.counts else "-",
        f"{facts.seconds:.1f}",
        f"{metric} {figure(facts.metrics[metric])}" if metric else "",
        artifact.uri,
    ]


def _cell(values: Mapping[str, float], key: str, form: str) -> str:
    """A figure; after its name and a dash, the interval it lies in."""
    if key not in values:
        return "-"
    if f"{key}_low" not in values:
        return format(values[key], form)
    low, high = values[f"{key}_low"], values[f"{key}_high"]
    return f"{values[key]:{form}} ({low:{form}}-{high:{form}})"
