"""Two predictors and probe texts in; how far apart their logits are out.

Both run in their own runtime, from the files that were committed, text to logits.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import Predictor


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from its model on the probe texts."""

    texts: int
    max_logit_difference: float
    mean_logit_difference: float
    agreement: float
    worst: str
    tolerance: float

    def holds(self) -> bool:
        """Whether every logit is near enough; a difference that is not a number never is."""
        return self.max_logit_difference <= self.tolerance

    def facts(self) -> Json:
        """As JSON."""
        return asdict(self)


def compare(
    reference: Predictor,
    exported: Predictor,
    probe: Sequence[tuple[str, str]],
    tolerance: float,
) -> Parity:
    """The parity of `exported` with `reference` on `probe`, pairs of id and text."""
    texts = [text for _, text in probe]
    expected_NL, found_NL = reference.logits(texts), exported.logits(texts)
    difference_N = np.abs(expected_NL - found_NL).max(axis=1)
    worst = int(np.argmax(np.nan_to_num(difference_N, nan=np.inf)))
    same_N = expected_NL.argmax(axis=1) == found_NL.argmax(axis=1)
    return Parity(
        texts=len(texts),
        max_logit_difference=float(difference_N[worst]),
        mean_logit_difference=float(difference_N.mean()),
        agreement=float(same_N.mean()),
        worst=probe[worst][0],
        tolerance=tolerance,
    )


def require(parity: Parity, name: str) -> None:
    """Refuse a file that is not equal to its model.

    Raises:
        ArtifactError: names the worst text, its difference and the tolerance.
    """
    if not parity.holds():
        raise ArtifactError(
            f"{name}: not equal to its model: on text {parity.worst} a logit differs by "
            f"{parity.max_logit_difference:.3g}, the tolerance is {parity.tolerance:g} "
            f"({parity.agreement:.1%} of {parity.texts} labels agree), so no Bundle is made; "
            "quantise the model first (compress), export in float32 (format.int8=false), or raise "
            "format.tolerance if such a difference is acceptable"
        )
