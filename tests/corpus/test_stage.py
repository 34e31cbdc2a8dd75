"""The corpus stage: the funnel on planted data, and the same bytes for any CPUs, kill or resume."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipelines.core import cluster
from pipelines.core.artifact import Workspace
from pipelines.core.config import Placement
from pipelines.core.errors import DataError
from pipelines.core.storage import Store
from pipelines.core.workflow import Step
from pipelines.corpus import schema
from pipelines.corpus.config import CorpusConfig, NearDuplicates, Passages
from pipelines.corpus.records import Slice
from pipelines.corpus.sources import Files, expand

pytestmark = pytest.mark.ray

WORDS = """the old people of this small town have always known that winter comes early and with it
snow wind and long dark nights when nobody wants to leave the warm kitchen where bread is baked
every morning by her mother who sings about summer rivers while children play under a table or read
books their father brought home from market last year before he went back across green hills to
work"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two files: 60 good documents, three duplicates, and one of each kind of trouble."""
    folder = tmp_path_factory.mktemp("raw")
    texts = [_story(number) for number in range(60)]
    near = texts[3] + " again"
    short = ["This one is much too short to keep.", "Please write a letter to a@example.org today."]
    extra = [texts[1], texts[2].upper().replace(" ", "  "), near, *short]
    lines = [json.dumps({"text": text, "label": "x"}) for text in [*texts, *extra]]
    (folder / "b.jsonl").write_text("\n".join(lines))
    (folder / "a.jsonl").write_text(
        json.dumps({"text": "今天的天气很好，我们去公园散步。" * 20, "label": "y"}) + "\n{"
    )
    return folder


@pytest.fixture(scope="module")
def made(ray_local, raw, tmp_path_factory):
    return _make(_config(raw), tmp_path_factory.mktemp("made"))


def test_every_document_goes_to_one_place_with_its_reason(made):
    out, outcome = made
    report = json.loads(out.read("report.json"))
    assert report["read"] == 67
    assert report["kept"] == outcome.counts["kept"] == 60
    assert report["rejected"] == {
        "gopher@paper": 2,
        "language": 1,
        "merged:exact": 2,
        "merged:near": 1,
    }
    assert report["rules"] == {"words": 2, "zh": 1}
    assert report["quarantined"] == 1
    assert outcome.counts["train"] + outcome.counts["test"] == 60
    assert outcome.counts["test"] > 0


def test_kept_rows_are_in_the_order_of_files_then_rows_with_the_documented_columns(made):
    table = _table(made[0], "data")
    assert table.schema.equals(schema.DATA)
    assert table["id"].to_pylist() == [f"b.jsonl:{number}" for number in range(60)]
    assert set(table["label"].to_pylist()) == {"x"}


def test_a_merged_document_names_the_one_that_stays_and_their_jaccard(made):
    rows = {row["id"]: row for row in _table(made[0], "rejected").to_pylist()}
    assert [
        (rows[f"b.jsonl:{n}"]["reason"], rows[f"b.jsonl:{n}"]["into"]) for n in (60, 61, 62)
    ] == [
        ("merged:exact", "b.jsonl:1"),
        ("merged:exact", "b.jsonl:2"),
        ("merged:near", "b.jsonl:3"),
    ]
    assert 0.8 <= rows["b.jsonl:62"]["jaccard"] < 1
    assert rows["b.jsonl:64"]["text"] == "Please write a letter to [EMAIL] today."


def test_a_near_duplicate_has_its_evidence(made):
    """71 words and one more: 67 of 68 n-grams of 5 words are shared."""
    rows = {row["id"]: row for row in _table(made[0], "rejected").to_pylist()}
    assert (rows["b.jsonl:62"]["shared"], rows["b.jsonl:61"]["shared"]) == (67, None)
    assert rows["b.jsonl:62"]["jaccard"] == pytest.approx(67 / 68, abs=1e-6)


def test_paragraphs_of_an_earlier_document_are_dropped_and_counted(tmp_path, ray_local):
    """A notice under every story; one document is hardly more than the notice."""
    notice = "All rights are reserved by the people of this small town, who bake bread."
    stories = [_story(number) for number in range(6)]
    texts = [f"{story}\n\n{notice}" for story in stories] + [f"{notice}\n\nA short one."]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    settings = {"sources": (Files(paths=(str(path),)),), "rules": (), "languages": ()}
    config = CorpusConfig(passages=Passages(min_left=100), shard_docs=2, **settings)
    out, outcome = _make(config, tmp_path)
    assert outcome.counts["passages_dropped"] == 6
    assert _table(out, "data")["text"].to_pylist() == [texts[0], *stories[1:]]
    (left_out,) = _table(out, "rejected").to_pylist()
    assert (left_out["reason"], left_out["value"]) == ("repeated:paragraphs", 12.0)
    assert left_out["text"] == texts[6]


def test_sources_are_mixed_by_weight_and_repeats_are_told(tmp_path, ray_local):
    for number, name in enumerate(("few", "plain", "twice")):
        texts = [_story(100 * number + row) for row in range(40)]
        lines = "\n".join(json.dumps({"text": text}) for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    weights = {"few": 0.5, "plain": 1.0, "twice": 2.25}
    sources = tuple(
        Files(paths=(str(tmp_path / f"{name}.jsonl"),), weight=weight)
        for name, weight in weights.items()
    )
    config = CorpusConfig(sources=sources, rules=(), languages=(), holdout=0.2, shard_docs=30)
    out, outcome = _make(config, tmp_path)
    rows = _table(out, "data").to_pylist()
    taken = {name: [row for row in rows if row["source"] == f"{name}.jsonl"] for name in weights}
    assert 12 <= len(taken["few"]) <= 28
    assert len(taken["plain"]) == 40
    assert {row["epoch"] for row in taken["twice"] if row["split"] == "test"} == {0}
    train = [row["id"] for row in taken["twice"] if row["split"] == "train"]
    assert {train.count(name) for name in train} == {2, 3}
    repeats = sum(row["epoch"] > 0 for row in rows)
    assert outcome.counts["repeated"] == repeats > 0
    assert outcome.counts["kept"] == len(rows) - repeats
    sampled = _table(out, "rejected").to_pylist()
    assert {(row["reason"], row["rule"], row["threshold"]) for row in sampled} == {
        ("sampled", "weight", 0.5)
    }


def test_a_document_that_its_weight_leaves_out_takes_no_other_with_it(tmp_path, ray_local):
    """Of two sources with the same texts the earlier is taken by half, the later whole."""
    texts = [_story(row) for row in range(40)]
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps({"text": text}) for text in texts))
    half, whole = Files(paths=(str(tmp_path / "a.jsonl"),), weight=0.5), str(tmp_path / "b.jsonl")
    sources = (half, Files(paths=(whole,)))
    settings = {"rules": (), "languages": (), "near_duplicates": NearDuplicates(alarm=None)}
    out, outcome = _make(CorpusConfig(sources=sources, **settings), tmp_path)
    assert sorted(_table(out, "data")["text"].to_pylist()) == sorted(texts)
    assert 0 < outcome.counts["merged"] < 40


def test_a_source_that_would_mostly_go_as_near_duplicates_stops_the_step(tmp_path, ray_local):
    """120 letters from one template, a file each: 119 of them are like the first."""
    letters = tmp_path / "letters"
    letters.mkdir()
    for number in range(120):
        (letters / f"{number:03}.txt").write_text(f"{_story(1)} customer{number}")
    (tmp_path / "other.txt").write_text(_story(2))
    sources = (Files(paths=(str(tmp_path / "other.txt"),)), Files(paths=(str(letters),)))
    settings = {"sources": sources, "rules": (), "languages": ()}
    for _ in range(2):  # a second try stops as well
        with pytest.raises(
            DataError, match=r"sources.1 \(000.txt, .*\): 119 of its 120 .* than 50%"
        ):
            _make(CorpusConfig(**settings), tmp_path)
    allowed = CorpusConfig(near_duplicates=NearDuplicates(alarm=None), **settings)
    assert _make(allowed, tmp_path / "allowed")[1].counts["merged"] == 119


def test_one_file_of_template_texts_among_good_ones_stops_the_step(tmp_path, ray_local):
    raw = tmp_path / "raw"
    raw.mkdir()
    letters = [f"{_story(1)} customer{number}" for number in range(120)]
    for name, texts in (("bad", letters), ("good", [_story(number) for number in range(9, 209)])):
        lines = [json.dumps({"text": text}) for text in texts]
        (raw / f"{name}.jsonl").write_text("\n".join(lines))
    config = CorpusConfig(sources=(Files(paths=(str(raw),)),), rules=(), languages=())
    with pytest.raises(DataError, match=r"bad.jsonl: 119 of its 120 .* than 50%"):
        _make(config, tmp_path)


def test_a_bad_line_is_in_quarantine(made):
    (row,) = _table(made[0], "quarantine").to_pylist()
    assert (row["source"], row["row"]) == ("a.jsonl", 1)


def test_a_killed_run_resumes_to_the_same_bytes(made, raw, tmp_path, ray_local):
    """Half of the first pass is done and nothing is published, as after a kill."""
    kept = [
        name for name in made[0].names(".work") if not name.endswith(("1.parquet", "2.parquet"))
    ]
    work = Workspace.take(Store.at(str(tmp_path / "work")))
    for name in kept:
        if "merged" not in name and "tally" not in name:
            work.write(name, made[0].read(name))
    out, _ = _make(_config(raw), tmp_path)
    assert _bytes(out) == _bytes(made[0])


def test_a_task_needs_no_part_but_its_own(raw, tmp_path):
    """With all of them in every task, what is shipped is quadratic in the corpus."""
    from pipelines.corpus.stage import _cut_one, _first_pass

    _, other = expand((Files(paths=(str(raw),), label="label"),))
    number, (cut, *_) = _cut_one(20, 1 << 20, (7, other))
    out = Workspace.take(Store.at(str(tmp_path / "work")))
    found = _first_pass(_config(raw), out, (number, [Slice(other, *cut)]))
    assert found == (20, 20)
    assert out.names(schema.WORK) == [schema.part(schema.WORK, 7)]


def test_where_the_files_lie_does_not_change_a_byte(made, raw, tmp_path, ray_local):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in raw.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert _bytes(_make(_config(moved), tmp_path)[0]) == _bytes(made[0])


def test_an_empty_result_says_where_everything_went(raw, tmp_path, ray_local):
    with pytest.raises(DataError, match=r"no document is kept .*language 66\).*en \(65\)"):
        _make(_config(raw, languages=("fr",)), tmp_path)


def test_planted_duplicates_are_all_removed(shared_data, tmp_path, ray_local):
    """1,000 planted documents with every exact and format-only duplicate of theirs."""
    folder = shared_data / "planted"
    truth = {row["id"]: row for row in _rows(folder / "truth.jsonl.gz")}
    rows = _rows(folder / "corpus.jsonl.gz")
    doubles = {i: t["of"] for i, t in truth.items() if t["kind"] in ("exact_dup", "format_dup")}
    wanted = doubles.keys() | set(doubles.values())
    rows = [row for row in rows if row["id"] in wanted]
    path = tmp_path / "planted.jsonl"
    path.write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows))
    config = CorpusConfig(sources=(Files(paths=(str(path),)),), rules=(), languages=())
    out, outcome = _make(config, tmp_path)
    kept = {rows[row]["id"] for row in _table(out, "data")["row"].to_pylist()}
    assert not [i for i, of in doubles.items() if i in kept and of in kept]
    assert outcome.counts["merged"] >= len(doubles)


def test_one_cpu_makes_the_same_bytes_as_two(made, raw, tmp_path, monkeypatch):
    """The last test of the module: it stops the Ray that the others share."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.shutdown()
    with cluster.session(Placement(storage=str(tmp_path), cpus=1)):
        out, _ = _make(_config(raw), tmp_path)
    assert _bytes(out) == _bytes(made[0])


def _story(number):
    """Seventy English words in an order of its own."""
    words = WORDS.split()
    random.Random(number).shuffle(words)
    return " ".join(words)


def _config(folder, **settings):
    return CorpusConfig(
        sources=(Files(paths=(str(folder),), label="label"),),
        shard_docs=20,
        holdout=0.3,
        min_language_score=0.3,
        **settings,
    )


def _make(config, folder):
    from pipelines.corpus.stage import make

    work = Workspace.take(Store.at(str(folder / "work")))
    step = Step("corpus", {}, work, Placement(storage=str(folder)), lambda facts: None)
    return work, make(config, step)


def _table(out, kind):
    return pa.concat_tables(
        pq.read_table(pa.BufferReader(out.read(name))) for name in out.names(kind)
    )


def _bytes(out):
    return {name: out.read(name) for name in out.names() if not name.startswith(".")}


def _rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
