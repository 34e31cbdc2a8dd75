"""What texts are judged by: every item is looked for, or the step says which cannot be."""

import json
from pathlib import Path

import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.errors import DataError
from pipelines.core.storage import Store
from pipelines.corpus.config import CorpusConfig, Decontaminate, Quality
from pipelines.corpus.contamination import matches
from pipelines.corpus.learn import evaluated, learn, learnt
from pipelines.corpus.sources import Files

ITEM = "Janet's ducks lay 16 eggs per day; she eats three for breakfast every morning."


def test_the_items_of_a_set_are_looked_for_and_those_too_short_are_counted(tmp_path: Path) -> None:
    config = _judged_by(tmp_path, [{"text": ITEM}, {"text": "a gem"}])
    out = Workspace.take(Store.at(str(tmp_path / "work")))
    learn(config, out)
    index = learnt(config, out).evaluation
    assert index is not None
    assert [match.item for match in matches(index, ITEM)] == ["0"]
    assert evaluated(config, out) == {"set.jsonl": {"items": 2, "too_short": 1}}


def test_a_set_without_the_field_stops_the_step_instead_of_finding_nothing(tmp_path: Path) -> None:
    config = _judged_by(tmp_path, [{"text": ITEM}, {"question": ITEM}, {"question": ITEM}])
    with pytest.raises(
        DataError,
        match=r"set.jsonl: 2 of its 3 .* row 1: no field 'text'.*text= .* decontaminate.sets",
    ):
        learn(config, Workspace.take(Store.at(str(tmp_path / "work"))))


def test_an_empty_set_and_empty_examples_stop_the_step(tmp_path: Path) -> None:
    config = _judged_by(tmp_path, [])
    with pytest.raises(DataError, match=r"set.jsonl: no text in it"):
        learn(config, Workspace.take(Store.at(str(tmp_path / "work"))))
    files = config.sources[:1]
    examples = Quality(wanted=files, unwanted=files)
    with pytest.raises(DataError, match=r"set.jsonl: no text in it.* quality.(un)?wanted"):
        learn(
            CorpusConfig(sources=files, quality=examples),
            Workspace.take(Store.at(str(tmp_path / "other"))),
        )


def _judged_by(folder: Path, rows: list[dict[str, str]]) -> CorpusConfig:
    path = folder / "set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    files = (Files(paths=(str(path),)),)
    return CorpusConfig(sources=files, decontaminate=Decontaminate(sets=files))
