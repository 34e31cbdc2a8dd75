"""What `fit` left in; the Model's files in the workspace and the step's figures out."""

import json
from pathlib import Path
from typing import Any

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.storage import scratch
from pipelines.model.checkpoint import save_model
from pipelines.train.loop import Fitted

APART, VALIDATION = ("step", "learning_rate", "skipped", "batch"), "validation_"
TAIL = 20  # the final figures are means over the last 1/20 of the steps: one batch is too noisy


def publish(
    out: Workspace, fitted: Fitted, model: Any, tokenizer: Path, task: Json, max_length: int
) -> Json:
    """Write the Model folder's files and `history.json`; returns the fields of an `Outcome`."""
    with scratch() as folder:
        save_model(model, tokenizer, task, max_length, Path(folder))
        out.put(Path(folder))
    out.write("history.json", json.dumps(fitted.history, indent=0, sort_keys=True).encode())
    left_out = sum("skipped" in point for point in fitted.history)
    counts = {
        "steps": len(fitted.history),
        "tokens": fitted.tokens,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if left_out or fitted.roll_backs:
        counts |= {"steps_left_out": left_out, "roll_backs": fitted.roll_backs}
    upto = int(fitted.chosen.get("best_step", len(fitted.history)))
    return {
        "counts": counts,
        "metrics": final(fitted.history[:upto]) | fitted.chosen,
        "measured": fitted.measured,
    }


def final(history: list[Json]) -> dict[str, float]:
    """Means of the loss and the task's figures at the end of a run."""
    last = history[-max(1, len(history) // TAIL) :]
    names = [name for name in last[0] if name not in APART and not name.startswith(VALIDATION)]
    return {name: sum(point[name] for point in last) / len(last) for name in names}
