"""The tokens stage on a local Ray: same bytes on any number of CPUs and after any interruption."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pipelines.core.artifact import Artifact
from pipelines.core.errors import DataError
from pipelines.core.workflow import Step
from pipelines.tokenizer.encode import open_backend, plain_ids
from pipelines.tokenizer.fast import Ids, Library
from pipelines.tokens import stage
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.lineage import trace
from pipelines.tokens.shards import Tokens
from pipelines.tokens.stage import make

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

CONFIG = TokensConfig(corpus="@corpus", tokenizer="@tokenizer", length=32)
TEXT = (
    "The fox ran. The dog slept! Did the fox see the dog? Nobody knows [SEP] it.\n"
    "狐狸跑了。狗睡着了！谁知道呢？\n"
)
Made = dict[str, Artifact]


@pytest.fixture
def inputs(
    make_artifact: Callable[..., Artifact], parts: dict[str, bytes], folders: dict[str, Path]
) -> Made:
    files = {path.name: path.read_bytes() for path in folders["wordpiece"].iterdir()}
    return {
        "corpus": make_artifact("Corpus", "corpus", parts),
        "tokenizer": make_artifact("Tokenizer", "tokenizer", files),
    }


def read(step: Step) -> Tokens:
    return Tokens(step.out.store.uri)


def committed(step: Step) -> dict[str, bytes]:
    """What would be committed of a step's files."""
    return {name: step.out.read(name) for name in step.out.names() if not name.startswith(".")}


def test_rows_decode_to_the_documents_of_the_split(
    step_for: Callable[..., Step], inputs: Made
) -> None:
    step = step_for(CONFIG, inputs)
    outcome = make(CONFIG, step)
    tokens = Tokens(step.out.store.uri)
    assert outcome.counts["documents"] == 24
    assert outcome.counts["rows"] == tokens.num_rows
    assert outcome.counts["tokens"] == tokens.lengths.sum()
    assert tokens.lengths.max() <= 29
    assert len(set(tokens.documents.tolist())) == 24
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"].local())
    first = [tokens.row(i).ids for i in range(tokens.num_rows) if tokens.documents[i] == 0]
    text = tokenizer.decode([token for ids in first for token in ids.tolist()])
    assert text.startswith("the fox ran. the dog slept!")
    assert "[ sep ]" in text  # a special token's text stayed text


def test_one_cpu_and_two_give_the_same_bytes(step_for: Callable[..., Step], inputs: Made) -> None:
    import ray.data

    limits = ray.data.ExecutionResources
    options = ray.data.DataContext.get_current().execution_options
    written = []
    for cpus in (1, 2):
        options.resource_limits = limits(cpu=cpus)
        step = step_for(CONFIG, inputs, f"cpus-{cpus}")
        make(CONFIG, step)
        written.append(committed(step))
    options.resource_limits = limits()
    assert len(written[0]) == 3 * 4 + 1  # tokens, rows, sentences, documents; and the index
    assert written[0] == written[1]


def test_a_killed_try_is_finished_to_the_same_bytes(
    step_for: Callable[..., Step], inputs: Made
) -> None:
    """Shard 0 was whole, shard 1 lacked its counts and was torn, shard 2 was not begun."""
    whole = step_for(CONFIG, inputs, "whole")
    make(CONFIG, whole)
    killed = step_for(CONFIG, inputs, "killed")
    for name in whole.out.names():
        if "-00000" in name:
            killed.out.write(name, whole.out.read(name))
    killed.out.write(".counts/00000.json", whole.out.read(".counts/00000.json"))
    killed.out.write("tokens-00001.npy", b"torn")
    kept = Path(killed.out.store.locate("tokens-00000.npy")).stat().st_mtime_ns
    resumed = step_for(CONFIG, inputs, "killed")
    outcome = make(CONFIG, resumed)
    assert committed(resumed) == committed(whole)
    assert Path(resumed.out.store.locate("tokens-00000.npy")).stat().st_mtime_ns == kept
    assert outcome.counts["documents"] == 24


def test_an_empty_split_means_every_document(step_for: Callable[..., Step], inputs: Made) -> None:
    config = CONFIG.model_copy(update={"split": ""})
    assert make(config, step_for(config, inputs)).counts["documents"] == 32


def test_progress_counts_shards_up_to_all(step_for: Callable[..., Step], inputs: Made) -> None:
    step = step_for(CONFIG, inputs)
    points: list[dict[str, object]] = []
    outcome = make(CONFIG, Step(step.name, step.inputs, step.out, step.placement, points.append))
    assert [(point["step"], point["steps"]) for point in points] == [(1, 3), (2, 3), (3, 3)]
    assert points[-1]["tokens"] == outcome.counts["tokens"]


def test_a_split_with_no_text_is_an_error(step_for: Callable[..., Step], inputs: Made) -> None:
    config = CONFIG.model_copy(update={"split": "dev"})
    with pytest.raises(DataError, match="no text in split 'dev'"):
        make(config, step_for(config, inputs))


@pytest.mark.parametrize("packing", ["document", "concat", "best-fit"])
def test_every_range_of_tokens_leads_to_its_record(
    packing: str, step_for: Callable[..., Step], inputs: Made
) -> None:
    """Row n of the raw file has `TEXT` n % 5 + 1 times; its byte offset is 1,000 n."""
    config = CONFIG.model_copy(update={"packing": packing})
    step = step_for(config, inputs)
    make(config, step)
    tokens, found = read(step), {}
    for number in range(tokens.num_rows):
        ids = tokens.row(number).ids.tolist()
        for origin in trace(tokens, number):
            piece = (origin.first, ids[origin.start : origin.end])
            found.setdefault((origin.id, origin.row, origin.offset), []).append(piece)
    rows = [row for row in range(32) if row % 4 != 3]
    assert sorted(found) == sorted((f"raw.jsonl:{row}", row, 1000 * row) for row in rows)
    backend = open_backend(inputs["tokenizer"].local())
    for (_, row, _), pieces in found.items():
        whole = [token for _, ids in sorted(pieces) for token in ids]
        text = plain_ids(backend, [TEXT * (row % 5 + 1)])[0]
        assert whole == text + ([] if packing == "document" else [tokens.end])


def test_shards_end_where_they_are_full(
    step_for: Callable[..., Step], inputs: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called as a task would: two documents a shard, of 11 in part 0 of which 9 are in train."""
    monkeypatch.setattr(stage, "SHARD_DOCUMENTS", 2)
    step = step_for(CONFIG, inputs)
    corpus, tokenizer = inputs["corpus"], inputs["tokenizer"]
    part = (0, "data/part-00000.parquet")
    _, counts = stage._encode_part(CONFIG, corpus, tokenizer, step.out, True, part)
    assert [shard["documents"] for shard in counts] == [2, 2, 2, 2, 1]
    assert [shard["cut"] for shard in counts] == [0, 1, 2, 3, 4]
    assert step.out.exists("tokens-00000-4.npy")


def test_a_fast_encoder_that_is_wrong_is_not_used(
    step_for: Callable[..., Step],
    inputs: Made,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One id is off by one; the log says which, and the shards are those of the library."""
    right = step_for(CONFIG, inputs, "right")
    assert make(CONFIG, right).measured["fast_encoder"] == 1
    library = Library(open_backend(inputs["tokenizer"].local()))

    class Wrong:
        name = "wrong"

        def ids(self, texts: list[str]) -> list[Ids]:
            return [ids + (ids == ids.max()) for ids in library.ids(texts)]

    monkeypatch.setattr(stage, "open_encoder", lambda folder: Wrong())
    step = step_for(CONFIG, inputs, "wrong")
    assert make(CONFIG, step).measured["fast_encoder"] == 0
    assert "encoding by the library instead: wrong gives" in caplog.text
    assert committed(step) == committed(right)
