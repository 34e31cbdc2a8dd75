"""A workflow and lists of values -> a run of every combination, and one table sorted by a metric.

Each combination ("point") is an ordinary workflow in one store: what points share is made once, by
fingerprint, and the same command after a kill goes on with what is there. A point that fails or
lacks the metric is the worst, never the best: absent is not zero and not infinity.
"""

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.core import recipe
from pipelines.core.artifact import Artifact
from pipelines.core.config import assignment, identity, inputs, nearest
from pipelines.core.console import figure, table
from pipelines.core.errors import ConfigError, RaylineError, StorageError
from pipelines.core.storage import Store
from pipelines.core.workflow import Workflow

log = logging.getLogger(__name__)

MOST = 500  # points; more is rather a slip of the pen than a plan
LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "seconds")
FOLDER = "sweeps"


@dataclass(frozen=True)
class Point:
    """One combination: its values by setting, as they were written, and its workflow."""

    values: Mapping[str, str]
    flow: Workflow

    def __str__(self) -> str:
        return "  ".join(f"{key}={value}" for key, value in self.values.items())


@dataclass(frozen=True)
class Score:
    """What became of a point; `value` is None where it failed or has no finite metric."""

    values: Mapping[str, str]
    value: float | None
    seconds: float = 0.0
    uri: str = ""
    error: str = ""


def points(
    workflow: str, settings: Sequence[str], file: Path | None, until: str | None
) -> list[Point]:
    """Every combination of the settings that list several values, checked; nothing is started.

    Args:
        workflow: its name or .py file.
        settings: `key=value`, or `key=value,value` for what is varied. Commas inside brackets,
            braces or quotes belong to a value.
        file: YAML file of further settings.
        until: the step each combination ends with; None: the last one whose settings vary.

    Raises:
        ConfigError: no setting varies, two combinations are the same, there are too many, or a
            setting or step does not exist.
        DataError: a raw file is missing.
    """
    lists = {key: _values(key, value) for key, value in map(_split, settings)}
    varied = {key: values for key, values in lists.items() if len(values) > 1}
    if not varied:
        raise ConfigError("nothing to sweep: give a setting several values, as a.rate=1e-3,5e-4")
    if (size := math.prod(map(len, varied.values()))) > MOST:
        raise ConfigError(f"{size} combinations, expected at most {MOST}; give fewer values")
    found = []
    for chosen in itertools.product(*lists.values()):
        picked = dict(zip(lists, chosen, strict=True))
        flow = recipe.load(workflow, [f"{key}={value}" for key, value in picked.items()], file)
        last = until or _last(flow, list(varied))
        found.append(Point({key: picked[key] for key in varied}, upto(flow, last)))
    _all_differ(found)
    return found


def upto(flow: Workflow, step: str) -> Workflow:
    """The steps that `step` is made from, and itself.

    Raises:
        ConfigError: there is no such step.
    """
    if step not in flow.steps:
        raise ConfigError(f"--until {step}: no such step; {nearest(step, list(flow.steps))}")
    wanted, pending = set[str](), [step]
    while pending:
        name = pending.pop()
        wanted.add(name)
        references = (reference for reference, _ in inputs(flow.steps[name]).values())
        pending += [reference[1:] for reference in references if reference.startswith("@")]
    short = Workflow(flow.name)
    short.steps = {name: config for name, config in flow.steps.items() if name in wanted}
    return short


def run(
    found: Sequence[Point], by: str, execute: Callable[[Point], dict[str, Artifact]]
) -> list[Score]:
    """Make every point, one after the other, and note its metric.

    Args:
        found: the points.
        by: a metric of the last step's artifact.
        execute: makes a point's artifacts by step, and reuses those that are there.

    Raises:
        StorageError: the storage cannot be reached, so no point could be made.
        ConfigError: artifacts were made, and none has the metric.
    """
    scores, metrics = [], set[str]()
    for number, point in enumerate(found, 1):
        try:
            made = execute(point)
        except StorageError:
            raise
        except RaylineError as error:
            log.warning("point %d of %d (%s) failed: %s", number, len(found), point, error)
            scores.append(Score(point.values, None, error=str(error)))
            continue
        last = list(made.values())[-1]
        metrics |= last.manifest.metrics.keys()
        scores.append(_score(point, last, by))
    if metrics and by not in metrics:
        raise ConfigError(
            f"--by {by}: no point has it; {nearest(by, sorted(metrics))}; the same command with "
            "another name reuses all that was made"
        )
    return scores


def ranked(scores: Sequence[Score], by: str, highest: bool | None = None) -> list[Score]:
    """Best first, those without a value last, equals in the order given.

    Args:
        scores: what became of the points.
        by: the metric's name.
        highest: whether more is better; None goes by the name (a loss is better low).
    """
    if highest is None:
        highest = not by.endswith(LOWER_IS_BETTER)

    def place(score: Score) -> tuple[bool, float]:
        if score.value is None:
            return True, 0.0
        return False, -score.value if highest else score.value

    return sorted(scores, key=place)


def render(scores: Sequence[Score], by: str) -> str:
    """The table: the varied settings, the metric, seconds of the last step, and where it lies."""
    keys = list(scores[0].values)
    rows = [
        [
            *(score.values[key] for key in keys),
            "-" if score.value is None else figure(score.value),
            f"{score.seconds:.1f}" if score.uri else "-",
            score.uri or score.error.splitlines()[0][:80],
        ]
        for score in scores
    ]
    return table([*keys, by, "seconds", "path"], rows)


def keep(scores: Sequence[Score], by: str, name: str, store: Store) -> str:
    """Write the table as JSON, best first; returns where.

    The name carries the varied settings, so the same sweep replaces its own file and no other.
    """
    keys = "-".join(key.rpartition(".")[2] for key in scores[0].values)
    path = f"{FOLDER}/{name}-{keys}.json"
    rows = [asdict(score) | {"metric": by} for score in scores]
    store.write(path, json.dumps(rows, indent=1).encode())
    return store.locate(path)


def _split(text: str) -> tuple[str, str]:
    assignment(text)  # complains of what is no key=value
    key, _, value = text.partition("=")
    return key, value


def _values(key: str, text: str) -> list[str]:
    """`text` cut at the commas that are in no bracket, brace or quote."""
    depth, quote, parts = 0, "", [""]
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise ConfigError(f"{key}={text}: a value is empty; write value,value without a gap")
    return parts


def _last(flow: Workflow, keys: list[str]) -> str:
    """The last step among those whose settings vary."""
    steps = {key.partition(".")[0] for key in keys}
    named = [name for name in flow.steps if name in steps]
    if not named:
        raise ConfigError(
            f"which step is judged? {', '.join(keys)} belongs to the workflow: add --until STEP, "
            f"one of {', '.join(flow.steps)}"
        )
    return named[-1]


def _all_differ(found: Sequence[Point]) -> None:
    """Refuse `1e-3,0.001`, which would be one point told twice, or a value the end never sees."""
    alike: dict[str, list[Point]] = {}
    for point in found:
        alike.setdefault(_settings(point), []).append(point)
    for group in alike.values():
        if len(group) == 1:
            continue  # raw files are hashed only where all else is equal
        seen: dict[str, Point] = {}
        for point in group:
            other = seen.setdefault(_raw(point), point)
            if other is not point:
                raise ConfigError(
                    f"{other} and {point} are the same up to the last step; vary a setting that "
                    "changes what it makes"
                )


def _settings(point: Point) -> str:
    """What a point's steps are, but for the contents of raw files."""
    steps = {name: [identity(one), inputs(one)] for name, one in point.flow.steps.items()}
    return json.dumps(steps, sort_keys=True)


def _raw(point: Point) -> str:
    """What raw files a point's steps read."""
    steps = {name: config.raw_digests() for name, config in point.flow.steps.items()}
    return json.dumps(steps, sort_keys=True)


def _score(point: Point, artifact: Artifact, by: str) -> Score:
    value = artifact.manifest.metrics.get(by)
    if value is not None and not math.isfinite(value):
        value = None
    error = "" if value is not None else f"no finite {by}"
    return Score(point.values, value, artifact.manifest.seconds, artifact.uri, error)
