import pytest

from pipelines.core import lineage
from pipelines.core.artifact import InputRecord, Workspace, commit
from pipelines.core.errors import ArtifactError
from pipelines.core.storage import Store


class Shelf:
    """Artifacts made by hand, in a store."""

    def __init__(self, root):
        self.store = Store.at(root)

    def add(self, kind, stage, name, inputs=(), mark="11111111", store=None, **facts):
        store = store or self.store
        work = Workspace.take(store.below(f".work/{name}"))
        work.write("content", f"{name} {mark}".encode())
        made_from = {
            role: InputRecord(
                name=made.manifest.name,
                kind=made.kind,
                digest=made.digest,
                path=made.uri.removeprefix(f"{self.store.uri}/"),
            )
            for role, made in inputs
        }
        record = {"kind": kind, "stage": stage, "name": name, "fingerprint": "0" * 64}
        record |= {"identity": {}, "inputs": made_from} | facts
        return commit(work, store.below(f"{stage}/{name}-{mark}"), record)


@pytest.fixture
def shelf(root):
    return Shelf(root)


@pytest.fixture
def line(shelf):
    """raw -> docs -> (vocab) -> tokens -> model."""
    raw = {"b.jsonl": "b" * 64, "a.jsonl": "a" * 64}
    docs = shelf.add("Corpus", "corpus", "docs", raw=raw, counts={"kept": 12345})
    vocab = shelf.add("Tokenizer", "tokenizer", "vocab", [("corpus", docs)])
    tokens = shelf.add("Tokens", "tokens", "tokens", [("corpus", docs), ("tokenizer", vocab)])
    metrics = {"z": 1.0, "loss": 2.34567}
    return shelf.add("Model", "train", "base", [("data", tokens)], metrics=metrics)


def test_the_tree_goes_back_to_the_raw_files(shelf, line):
    text = lineage.render(lineage.ancestors(line, shelf.store))
    stripped = [row.lstrip("│├└─ ") for row in text.splitlines()]
    digest = {
        made.manifest.name: made.digest[:12]
        for made in (lineage.find(name, shelf.store) for name in ("docs", "vocab", "tokens"))
    }
    docs = [
        f"corpus: Corpus docs {digest['docs']}  kept 12,345",
        "raw file a.jsonl aaaaaaaaaaaa",
        "raw file b.jsonl bbbbbbbbbbbb",
    ]
    assert stripped == [
        f"Model base {line.digest[:12]}  loss 2.346",
        f"data: Tokens tokens {digest['tokens']}",
        *docs,
        f"tokenizer: Tokenizer vocab {digest['vocab']}",
        f"corpus: Corpus docs {digest['docs']}  (see above)",
    ]


def test_the_branches_are_drawn(tmp_path):
    shelf = Shelf(str(tmp_path))
    docs = shelf.add("Corpus", "corpus", "docs", raw={"a": "a" * 64})
    one = shelf.add("Tokenizer", "tokenizer", "one", [("corpus", docs)])
    both = shelf.add("Tokens", "tokens", "both", [("corpus", docs), ("tokenizer", one)])
    rows = lineage.render(lineage.ancestors(both, shelf.store)).splitlines()
    assert [row[: len(row) - len(row.lstrip("│├└─ "))] for row in rows] == [
        "", "├─ ", "│  └─ ", "└─ ", "   └─ ",
    ]  # fmt: skip


def test_many_raw_files_are_counted_not_listed(shelf):
    raw = {f"part-{number:04}": "c" * 64 for number in range(1205)}
    docs = shelf.add("Corpus", "corpus", "docs", raw=raw)
    rows = lineage.render(lineage.ancestors(docs, shelf.store)).splitlines()
    assert len(rows) == 1 + 5 + 1
    assert rows[-1] == "└─ and 1,200 more raw files"


def test_a_missing_ancestor_is_shown_as_missing(shelf, line):
    shelf.store.delete("tokens")
    tree = lineage.ancestors(line, shelf.store)
    (tokens,) = tree.made_from
    assert tokens.missing
    assert tokens.made_from == ()
    assert "Tokens tokens" in lineage.render(tree)
    assert "missing: no longer at tokens/tokens-11111111" in lineage.render(tree)


def test_a_replaced_or_damaged_ancestor_is_missing_not_shown_as_the_old_one(shelf, line):
    shelf.store.below("tokens/tokens-11111111").write("artifact.json", b"{}")
    assert lineage.ancestors(line, shelf.store).made_from[0].missing
    shelf.store.delete("tokens")
    shelf.add("Tokens", "tokens", "tokens", mark="22222222")
    assert lineage.ancestors(line, shelf.store).made_from[0].missing


def test_an_ancestor_that_was_moved_is_found_by_its_digest(shelf, line):
    shelf.store.below("tokens/tokens-11111111").move(shelf.store.below("tokens/renamed"))
    (tokens,) = lineage.ancestors(line, shelf.store).made_from
    assert not tokens.missing
    assert tokens.uri.endswith("tokens/renamed")


def test_an_ancestor_in_another_store_is_found_by_its_whole_path(tmp_path):
    shelf, elsewhere = Shelf(str(tmp_path / "runs")), Store.at(str(tmp_path / "elsewhere"))
    docs = shelf.add("Corpus", "corpus", "docs", store=elsewhere)
    vocab = shelf.add("Tokenizer", "tokenizer", "vocab", [("corpus", docs)])
    (found,) = lineage.ancestors(vocab, shelf.store).made_from
    assert found.uri == docs.uri


def test_find_takes_a_path_a_path_in_the_store_or_the_newest_of_a_step(shelf):
    old = shelf.add("Corpus", "corpus", "docs", mark="aaaaaaaa", started="2026-01-02T00:00:00")
    new = shelf.add("Corpus", "corpus", "docs", mark="00000000", started="2026-01-03T00:00:00")
    assert lineage.find(old.uri, shelf.store).digest == old.digest
    assert lineage.find("corpus/docs-aaaaaaaa", shelf.store).digest == old.digest
    assert lineage.find("docs", shelf.store).digest == new.digest
    with pytest.raises(ArtifactError, match=r"did you mean docs\?"):
        lineage.find("dosc", shelf.store)


def test_find_in_an_empty_store_says_that_it_is_empty(root):
    with pytest.raises(ArtifactError, match="holds no artifact yet"):
        lineage.find("docs", Store.at(root))


def test_the_tree_as_json_has_every_node(shelf, line):
    tree = lineage.plain(lineage.ancestors(line, shelf.store))
    assert tree["metrics"] == {"loss": 2.34567}
    corpus = tree["made_from"][0]["made_from"][0]
    assert corpus["counts"] == {"kept": 12345}
    assert [raw["digest"][0] for raw in corpus["made_from"]] == ["a", "b"]
