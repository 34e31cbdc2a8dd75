"""A setting that would do nothing is refused, and digests tell what each raw file is for."""

from pathlib import Path

import pytest

from pipelines.core.config import parse
from pipelines.core.errors import ConfigError
from pipelines.corpus.config import CorpusConfig, Quality
from pipelines.corpus.sources import Code, Files


def test_the_fewest_words_belong_to_a_rule_set() -> None:
    sources = {"sources": [{"kind": "files", "paths": ["x.jsonl"]}]}
    with pytest.raises(ConfigError, match="min_words is a setting of the Gopher sets"):
        parse(CorpusConfig, sources | {"rules": ["c4"], "min_words": 5}, "here")
    assert parse(CorpusConfig, sources | {"min_words": 5}, "here").min_words == 5


@pytest.mark.parametrize("kind", ["text", "html", "warc"])
@pytest.mark.parametrize("field", ["text", "label"])
def test_a_field_is_of_a_format_that_has_fields(kind: str, field: str) -> None:
    source = {"kind": "files", "paths": ["x"], "format": kind, field: "body"}
    with pytest.raises(ConfigError, match=f"{field}=body names a field, .* format {kind} has no"):
        parse(CorpusConfig, {"sources": [source]}, "here")
    parse(CorpusConfig, {"sources": [source | {"format": "csv"}]}, "here")


@pytest.mark.parametrize("setting", [{"weight": 2}, {"label": "stars"}])
@pytest.mark.parametrize("role", ["wanted", "unwanted", "sets"])
def test_files_that_are_only_compared_with_have_no_weight_or_label(
    role: str, setting: dict[str, object]
) -> None:
    plain = {"paths": ["x.jsonl"]}
    files = {name: [plain] for name in ("wanted", "unwanted", "sets")}
    files[role] = [plain, plain | setting]
    quality = {name: files[name] for name in ("wanted", "unwanted")}
    settings = {
        "sources": [{"kind": "files"} | plain],
        "quality": quality,
        "decontaminate": {"sets": files["sets"]},
    }
    with pytest.raises(ConfigError, match=rf"{role}.*entry 1 has (weight=2.0|label=stars)"):
        parse(CorpusConfig, settings, "here")


def test_texts_to_keep_and_texts_to_leave_out_cannot_be_swapped_unseen(tmp_path: Path) -> None:
    good, bad = _written(tmp_path, "good.txt"), _written(tmp_path, "bad.txt")
    one, other = (
        CorpusConfig(
            sources=(Files(paths=(good,)),),
            quality=Quality(wanted=(Files(paths=(a,)),), unwanted=(Files(paths=(b,)),)),
        ).raw_digests()
        for a, b in ((good, bad), (bad, good))
    )
    assert list(one) == ["good.txt", "wanted: good.txt", "unwanted: bad.txt"]
    assert one != other


def test_folders_of_code_of_two_weights_cannot_be_swapped_unseen(tmp_path: Path) -> None:
    first, second = _written(tmp_path, "a.py"), _written(tmp_path, "b.py")
    one, other = (
        CorpusConfig(sources=(Code(paths=(a,)), Code(paths=(b,), weight=0.5))).raw_digests()
        for a, b in ((first, second), (second, first))
    )
    assert list(one) == ["a.py (format=code)", "b.py (format=code, weight=0.5)"]
    assert one != other


def _written(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text(name)
    return str(path)
