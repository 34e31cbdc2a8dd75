"""A step number in; its learning rate out."""

import math
from typing import assert_never

from pipelines.train.config import Constant, Cosine, Linear, Optimise, WarmupStableDecay


def learning_rate(step: int, optimise: Optimise) -> float:
    """The rate of step `step` (from 0): a linear warm-up to the peak, then the schedule's course.

    No step is wasted: the first step's rate is above zero, and so is the last one's.
    """
    warm = round(optimise.warmup * optimise.steps)
    if step < warm:
        return optimise.learning_rate * (step + 1) / warm
    return optimise.learning_rate * _share(step, warm, optimise)


def _share(step: int, warm: int, optimise: Optimise) -> float:
    """Of the peak, once the warm-up's `warm` steps are over.

    Source: the formulas' own are named at the settings in `config.py`.
    """
    match optimise.schedule:
        case Linear():
            return 1 - _progress(step, warm, optimise.steps)
        case Cosine(floor=floor):
            turn = math.cos(math.pi * _progress(step, warm, optimise.steps))
            return floor + (1 - floor) * (1 + turn) / 2
        case WarmupStableDecay(decay=decay, fall=fall):
            begin = max(warm, optimise.steps - max(1, round(decay * optimise.steps)))
            progress = _progress(max(step, begin), begin, optimise.steps)
            return 1 - (math.sqrt(progress) if fall == "1-sqrt" else progress)
        case Constant():
            return 1.0
        case other:
            assert_never(other)


def _progress(step: int, begin: int, end: int) -> float:
    """From 0 at `begin` to just below 1 at the last step before `end`."""
    return (step - begin) / (end - begin)
