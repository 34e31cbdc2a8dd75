"""A file that differs from its model is refused, and the worst text is named."""

import numpy as np
import pytest

from pipelines.core.errors import ArtifactError
from pipelines.export.parity import compare, require

PROBE = [("f:0", "a"), ("f:1", "b"), ("f:2", "c")]
REFERENCE = [[1.0, 2.0], [3.0, 1.0], [0.0, 0.5]]


class Gives:
    """A predictor whose logits are given."""

    def __init__(self, logits):
        self.given = np.array(logits, dtype=np.float32)

    def logits(self, texts):
        assert list(texts) == ["a", "b", "c"]
        return self.given


def test_the_largest_difference_is_found_and_named():
    exported = [[1.0, 2.0], [3.0, 1.25], [0.5, 0.25]]
    parity = compare(Gives(REFERENCE), Gives(exported), PROBE, tolerance=0.5)
    assert parity.max_logit_difference == 0.5
    assert parity.worst == "f:2"
    assert parity.mean_logit_difference == pytest.approx((0 + 0.25 + 0.5) / 3)
    assert parity.agreement == pytest.approx(2 / 3)  # the third label flipped
    require(parity, "mobile")


def test_above_the_tolerance_no_bundle_is_made():
    exported = [[1.0, 2.0], [3.0, 1.26], [0.0, 0.5]]
    parity = compare(Gives(REFERENCE), Gives(exported), PROBE, tolerance=0.25)
    with pytest.raises(
        ArtifactError, match=r"mobile: .* text f:1 .* 0\.26, the tolerance is 0\.25"
    ):
        require(parity, "mobile")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_logit_that_is_no_number_never_passes(broken):
    exported = [[1.0, 2.0], [broken, 1.0], [9.0, 0.5]]
    parity = compare(Gives(REFERENCE), Gives(exported), PROBE, tolerance=1e9)
    assert parity.worst == "f:1"
    with pytest.raises(ArtifactError, match="f:1"):
        require(parity, "mobile")
