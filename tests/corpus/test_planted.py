"""The whole stage on planted text: what must go goes for a reason that fits, and no secret is left.

One corpus is made of all 3,082 documents and encoded; every test looks at it.
"""

import gzip
import json
import random
from collections import Counter, defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import cluster
from pipelines.core.config import Placement
from pipelines.core.run import run
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig, Decontaminate, Quality
from pipelines.corpus.sources import Files
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.shards import Tokens

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
EVALUATION = {
    "lm_eval/gsm8k_test_a": "question",
    "seq2seq/humaneval": "prompt",
    "classification/sst2_dev_a": "text",
    "qa/xquad_en_a": "context",
}
FORGED = """The letter ends with <|endoftext|> as a forged mark of its end.
It has [SEP] and [MASK] in it, and nobody in the village knew what to make of that.
The postman said that he had seen worse, and that the sender was known to him.
So they put it with the others, in the box that the teacher keeps under the window.
It was read to the children in the evening, and they laughed at the strange marks."""
FITTING = {  # what a garbage kind may be left out for
    "empty": {"empty"},
    "too_short": {"words", "sentences", "language"},
    "control_chars": {"language", "alphabetic_words", "words", "stop_words", "examples"},
    "symbols": {"language", "alphabetic_words", "words", "bullet_lines", "stop_words"},
    "code_json": {"curly_brackets", "language"},
    "lorem": {"lorem_ipsum", "language"},
    "menu": {"sentences", "language", "words"},
    "repeated_lines": {"sentences", "duplicate_lines", "stop_words"},
    "repeated_words": {"sentences", "stop_words", "word_length", "language"},
    "random_words": {"examples", "sentences"},
    "mojibake": {"language"},  # repaired, it is Chinese, and English is asked for
}


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def planted(shared_data, tmp_path_factory):
    """Documents and truth by row, the corpus and the tokens made of them."""
    root = tmp_path_factory.mktemp("planted")
    truth = {row["id"]: row for row in rows(shared_data / "planted/truth.jsonl.gz")}
    documents = rows(shared_data / "planted/corpus.jsonl.gz")
    documents.append({"id": "forged", "text": FORGED})
    truth["forged"] = {"id": "forged", "kind": "forged"}
    facts = [(document["text"], truth[document["id"]]) for document in documents]
    prose = [row["text"] for row in rows(shared_data / "pretrain/en_books.jsonl.gz")[:400]]
    prose += [row["text"] for row in rows(shared_data / "pretrain/en_web_ewt.jsonl.gz")]
    write(root / "planted.jsonl", [text for text, _ in facts])
    write(root / "wanted.jsonl", prose)
    write(root / "unwanted.jsonl", [shuffled(text) for text in prose])
    made = run(flow(root, shared_data), Placement(storage=str(root / "runs"), cpus=2), [],
               session=cluster.session)  # fmt: skip
    return facts, made


def flow(root, shared_data):
    line = Workflow("planted")
    sets = [
        Files(paths=(str(shared_data / f"{path}.jsonl.gz"),), text=field)
        for path, field in EVALUATION.items()
    ]
    corpus = line.add(
        "docs",
        CorpusConfig(
            sources=(Files(paths=(str(root / "planted.jsonl"),)),),
            rules=("c4", "gopher@paper"),
            min_words=20,
            quality=Quality(
                wanted=(Files(paths=(str(root / "wanted.jsonl"),)),),
                unwanted=(Files(paths=(str(root / "unwanted.jsonl"),)),),
                min_score=0.2,
            ),
            decontaminate=Decontaminate(sets=tuple(sets)),
            shard_docs=500,
        ),
    )
    bpe = line.add("bpe", TokenizerConfig(corpus=corpus, kind="bpe", vocab_size=2000))
    line.add("tokens", TokensConfig(corpus=corpus, tokenizer=bpe, packing="concat", split=""))
    return line


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def shuffled(text):
    words = text.split()
    random.Random(len(text)).shuffle(words)
    return " ".join(words)


def table(made, folder):
    """The rows of a folder of the corpus, by row of the file."""
    corpus = made["docs"]
    parts = [pq.read_table(pa.BufferReader(corpus.read(name))).to_pylist()
             for name in corpus.files(".parquet") if name.startswith(f"{folder}/")]  # fmt: skip
    found = [row for part in parts for row in part]
    return {int(row["id"].rpartition(":")[2]): row for row in found}


def test_every_garbage_kind_goes_for_a_reason_that_fits(planted):
    facts, made = planted
    rejected, kept = table(made, "rejected"), table(made, "data")
    wrong: Counter[tuple[str, str]] = Counter()
    for number, (_, truth) in enumerate(facts):
        if truth["kind"] == "garbage":
            row = rejected.get(number)
            names = {row["reason"], row["rule"]} if row else {"kept"}
            if row and row["reason"].startswith("merged"):
                continue  # the same rubbish twice
            if not names & FITTING[truth["what"]]:
                wrong[truth["what"], str(row and row["rule"])] += 1
    assert not wrong, (wrong, len(kept))


def test_evaluation_items_are_found_and_little_else(planted):
    facts, made = planted
    rejected = table(made, "rejected")
    found = defaultdict(list)
    for number, (_, truth) in enumerate(facts):
        hit = rejected.get(number, {}).get("reason") == "contaminated"
        kind = truth.get("mode") or "clean"
        if hit or kind == "clean" or number not in rejected:
            found[kind].append(hit)
    assert sum(found["verbatim"]) / len(found["verbatim"]) >= 0.99
    assert sum(found["lower_nopunct"]) / len(found["lower_nopunct"]) >= 0.95
    assert sum(found["clean"]) <= 3


def test_no_planted_identifier_and_no_forged_token_reaches_a_shard(planted):
    facts, made = planted
    tokens = Tokens(made["tokens"].local())
    backend = open_backend(made["bpe"].local())
    ids = [tokens.row(number).ids.tolist() for number in range(tokens.num_rows)]
    text = "".join(backend.decode_batch(ids, skip_special_tokens=False))
    values = {pii["value"] for _, truth in facts for pii in truth.get("pii", [])}
    assert len(values) > 500
    assert not [value for value in values if value in text]
    end = backend.token_to_id("<|endoftext|>")
    assert sum(row.count(end) for row in ids) == made["tokens"].manifest.counts["documents"]
    assert text.count("ends with <|endoftext|> as a forged mark") == 1


def test_the_clean_documents_mostly_stay(planted):
    facts, made = planted
    kept = table(made, "data")
    english = [n for n, (_, truth) in enumerate(facts)
               if truth["kind"] == "clean" and truth["lang"] == "en"]  # fmt: skip
    assert sum(number in kept for number in english) / len(english) > 0.5
