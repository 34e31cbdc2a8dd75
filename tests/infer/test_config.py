"""Settings of bulk inference."""

import pytest

from pipelines.core.config import identity, parse
from pipelines.core.errors import ConfigError
from pipelines.infer.config import InferConfig


@pytest.mark.parametrize("sources", [{}, {"data": "@c", "files": ["a.jsonl"]}])
def test_exactly_one_source_is_wanted(sources):
    with pytest.raises(ConfigError, match=r"set either data .* or files"):
        parse(InferConfig, {"model": "@m"} | sources, "command line")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "@c", "text": "body"}, "text=body has no effect on a Corpus"),
        ({"files": ["a.jsonl"], "split": "test"}, "split=test has no effect on files"),
    ],
)
def test_a_setting_of_the_other_source_is_an_error(given, message):
    with pytest.raises(ConfigError, match=message):
        parse(InferConfig, {"model": "@m"} | given, "command line")


def test_where_the_files_lie_is_not_identity_but_their_contents_are(tmp_path):
    made = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text('{"text": "a"}')
        made.append(InferConfig(model="@m", files=(str(tmp_path / folder / "a.jsonl"),)))
    assert identity(made[0]) == identity(made[1])
    assert made[0].raw_digests() == made[1].raw_digests()
    (tmp_path / "there" / "a.jsonl").write_text('{"text": "b"}')
    assert made[0].raw_digests() != made[1].raw_digests()
