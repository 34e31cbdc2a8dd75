"""Losses and gradient norms of the steps so far in; whether the next one is a spike out.

Values only: what is remembered is a `Watch`, which goes into every checkpoint, so that a run that
resumes decides what an undisturbed one does.

Source: OLMo-core's SkipStepOptimizer, which leaves a step out when its loss or gradient norm is
more than 6 standard deviations above the mean of the 128 steps before. Here a spike does not enter
the window: four in a row would otherwise hide the fifth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.train.config import Spikes


@dataclass(frozen=True)
class Watch:
    """What is remembered of the steps before.

    `losses` and `norms` are those of the window; `streak` counts spikes in a row; `anchor` is the
    batch number of the checkpoint that weights would go back to; `skipped` and `roll_backs` count
    what was done. Without `Spikes` all of it stays empty.
    """

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    streak: int = 0
    anchor: int | None = None
    skipped: int = 0
    roll_backs: int = 0


def watched(watch: Watch, loss: float, norm: float, settings: Spikes) -> Watch:
    """What is remembered after a step; its `streak` is above zero if the step is a spike."""
    if _above(loss, watch.losses, settings) or _above(norm, watch.norms, settings):
        return replace(watch, streak=watch.streak + 1, skipped=watch.skipped + 1)
    kept = settings.window - 1
    return replace(
        watch,
        losses=(*watch.losses[-kept:], loss),
        norms=(*watch.norms[-kept:], norm),
        streak=0,
    )


def _above(value: float, window: Sequence[float], settings: Spikes) -> bool:
    """Whether `value` is too far above the mean of `window`, once half the window is there."""
    if len(window) < settings.window // 2:
        return False
    # `fsum` is exact whatever the order, so a window that came out of a checkpoint judges alike.
    mean = math.fsum(window) / len(window)
    variance = math.fsum((x - mean) ** 2 for x in window) / (len(window) - 1)
    return value - mean > settings.sigma * math.sqrt(variance)
