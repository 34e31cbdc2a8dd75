"""A step number in; its learning rate out."""

from pipelines.train.config import Optimise


def learning_rate(step: int, optimise: Optimise) -> float:
    """The rate of step `step` (from 0): linear warm-up to the peak, then linear decay.

    The first step's rate is above zero and so is the last's, so no step is wasted.

    Source: Devlin et al. 2019, appendix A.2.
    """
    warm = round(optimise.warmup * optimise.steps)
    if step < warm:
        return optimise.learning_rate * (step + 1) / warm
    return optimise.learning_rate * (optimise.steps - step) / (optimise.steps - warm)
