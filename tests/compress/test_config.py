"""Settings of one method that would do nothing in another are refused."""

import pytest

from pipelines.compress.config import CompressConfig
from pipelines.core.config import parse
from pipelines.core.errors import ConfigError

STUDENT = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32}
DISTILL = {"kind": "distill", "student": STUDENT, "optimise": {"steps": 1}}
GIVEN = {"model": "@m", "data": "@d", "split": "train"}


def test_the_split_learnt_from_is_refused_where_nothing_is_learnt():
    parse(CompressConfig, GIVEN | {"method": DISTILL}, "test")
    with pytest.raises(ConfigError, match="split has no effect on quantize"):
        parse(CompressConfig, GIVEN | {"method": {"kind": "quantize"}}, "test")


def test_a_student_that_cannot_classify_is_refused():
    llama = STUDENT | {"architecture": "llama"}
    method = DISTILL | {"student": llama}
    with pytest.raises(ConfigError, match="llama is of the family decoder; a student classifies"):
        parse(CompressConfig, GIVEN | {"method": method}, "test")
