"""What cannot work is refused before any process starts, with both values and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.core.artifact import Artifact, InputRecord
from pipelines.core.errors import ArtifactError, ConfigError, DataError
from pipelines.core.storage import Store
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import CausalLM, Classify, MaskedLM
from pipelines.train.check import check
from pipelines.train.config import Optimise, TrainConfig, Validation
from tests.train.conftest import corpus_part, texts

NOWHERE = Store("unused")
SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)
OPTIMISE = Optimise(steps=30, batch_rows=8)
PRETRAIN = TrainConfig(
    data="@tokens", tokenizer="@vocab", model=SHAPE, task=MaskedLM(), optimise=OPTIMISE
)
TUNE = TrainConfig(
    data="@corpus",
    tokenizer="@vocab",
    model=SHAPE,
    task=Classify(max_length=16),
    optimise=OPTIMISE,
)
Committed = Callable[[str, Path], Artifact]


@pytest.fixture
def pretraining(
    committed: Committed, tokenizer_folder: Path, tokens_folder: Path
) -> dict[str, Artifact]:
    return {
        "data": committed("Tokens", tokens_folder),
        "tokenizer": committed("Tokenizer", tokenizer_folder),
    }


@pytest.fixture
def corpus(make_artifact: Callable[..., Artifact]) -> Artifact:
    return make_artifact("Corpus", "corpus", {"data/part-00000.parquet": corpus_part(texts(200))})


def test_tokens_of_another_vocabulary_are_refused(
    pretraining: dict[str, Artifact], tiny_classifier: Artifact
) -> None:
    with pytest.raises(ConfigError, match=r"by another tokenizer .*\(of 45\)"):
        check(PRETRAIN, pretraining | {"tokenizer": tiny_classifier}, NOWHERE)


def made_from(source: Artifact, role: str) -> dict[str, dict[str, InputRecord]]:
    """The manifest's record of one input."""
    facts = source.manifest
    record = InputRecord(name=facts.name, kind=facts.kind, digest=source.digest, path=source.uri)
    return {"inputs": {role: record}}


def test_a_start_models_tokenizer_is_traced_and_one_of_equal_size_refused(
    make_artifact: Callable[..., Artifact],
    tiny_classifier: Artifact,
    tokens_folder: Path,
    tmp_path: Path,
) -> None:
    index = json.loads((tokens_folder / "index.json").read_text())
    size = {"index.json": json.dumps(index | {"vocab_size": 45}).encode()}
    model = {name: tiny_classifier.read(name) for name in tiny_classifier.files()}
    one, other = (
        make_artifact("Tokenizer", "tokenizer", {"vocab": name.encode()}, name=name)
        for name in ("one", "other")
    )
    base = make_artifact("Model", "train", model, name="base", **made_from(one, "tokenizer"))
    tuned = make_artifact("Model", "train", model, name="tuned", **made_from(base, "start"))
    student = make_artifact("Model", "compress", model, name="s", **made_from(tuned, "model"))
    right = make_artifact("Tokens", "tokens", size, name="a", **made_from(one, "tokenizer"))
    wrong = make_artifact("Tokens", "tokens", size, name="b", **made_from(other, "tokenizer"))
    config = TrainConfig(data="@t", start="@m", task=MaskedLM(), optimise=OPTIMISE)
    store = Store.at(str(tmp_path))
    for start in (base, tuned, student):
        check(config, {"data": right, "start": start}, store)
        with pytest.raises(ConfigError, match=r"another tokenizer \(of 45.* than that .*of 45"):
            check(config, {"data": wrong, "start": start}, store)
    # A Model whose record does not tell: the sizes are all there is to compare.
    check(config, {"data": wrong, "start": tiny_classifier}, store)


def test_a_task_refuses_data_of_the_wrong_kind(
    pretraining: dict[str, Artifact], corpus: Artifact
) -> None:
    with pytest.raises(ConfigError, match=r"is a Corpus .* learns from a Tokens"):
        check(PRETRAIN, pretraining | {"data": corpus}, NOWHERE)


def test_rows_longer_than_the_model_are_refused(
    pretraining: dict[str, Artifact], tiny_classifier: Artifact, corpus: Artifact
) -> None:
    short = PRETRAIN.model_copy(update={"model": SHAPE.model_copy(update={"max_length": 8})})
    with pytest.raises(ConfigError, match="rows of 16 tokens do not fit the model's 8 positions"):
        check(short, pretraining, NOWHERE)
    started = TrainConfig(data="@c", start="@m", task=Classify(max_length=65), optimise=OPTIMISE)
    with pytest.raises(ConfigError, match="rows of 65 tokens do not fit the model's 64 positions"):
        check(started, {"data": corpus, "start": tiny_classifier}, NOWHERE)


def test_weights_of_another_family_than_the_tasks_are_refused(
    pretraining: dict[str, Artifact], tiny_classifier: Artifact
) -> None:
    config = TrainConfig(data="@t", start="@m", task=CausalLM(), optimise=OPTIMISE)
    inputs = {"data": pretraining["data"], "start": tiny_classifier}
    with pytest.raises(
        ConfigError, match=r"is a bert of the family encoder, and causal-lm .* decoder"
    ):
        check(config, inputs, NOWHERE)


def test_a_folder_that_is_no_known_model_is_refused(
    pretraining: dict[str, Artifact], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    settings = {"data": "@t", "task": MaskedLM(), "optimise": OPTIMISE}
    config = TrainConfig(pretrained=str(tmp_path), **settings)
    with pytest.raises(ArtifactError, match="model_type='mamba', expected one of bert"):
        check(config, {"data": pretraining["data"]}, NOWHERE)


def test_tokens_of_another_vocabulary_than_a_pretrained_folders_are_refused(
    pretraining: dict[str, Artifact], shared_data: Path
) -> None:
    folder = str(shared_data / "models" / "stories260K-hf")
    config = TrainConfig(data="@t", pretrained=folder, task=CausalLM(), optimise=OPTIMISE)
    assert "pretrained: model.safetensors" in config.raw_digests()
    with pytest.raises(ConfigError, match=r"another tokenizer \(of \d+.*of 512\)"):
        check(config, {"data": pretraining["data"]}, NOWHERE)


def test_fewer_rows_than_one_batch_are_refused(
    pretraining: dict[str, Artifact], corpus: Artifact
) -> None:
    large = {"optimise": Optimise(steps=1, batch_rows=500)}
    with pytest.raises(DataError, match=r"has \d+ rows, fewer than one batch .*batch_rows=500"):
        check(PRETRAIN.model_copy(update=large), pretraining, NOWHERE)
    few = TUNE.model_copy(update={"max_rows": 7})
    with pytest.raises(DataError, match=r"has 7 rows, fewer than one batch .*batch_rows=8"):
        check(few, pretraining | {"data": corpus}, NOWHERE)


def test_rows_to_judge_on_must_not_be_those_learnt_from(
    pretraining: dict[str, Artifact], corpus: Artifact
) -> None:
    judged = PRETRAIN.model_copy(update={"validation": Validation(data="@tokens")})
    same = pretraining | {"validation.data": pretraining["data"]}
    with pytest.raises(ConfigError, match="is what is learnt from"):
        check(judged, same, NOWHERE)
    judged = TUNE.model_copy(update={"validation": Validation(data="@corpus", split="train")})
    inputs = pretraining | {"data": corpus, "validation.data": corpus}
    with pytest.raises(ConfigError, match="is what is learnt from"):
        check(judged, inputs, NOWHERE)
    other = judged.model_copy(update={"validation": Validation(data="@corpus")})
    with pytest.raises(DataError, match="no row in split 'test'"):
        check(other, inputs, NOWHERE)


def test_rows_to_judge_on_are_of_the_kind_learnt_from(
    pretraining: dict[str, Artifact], corpus: Artifact
) -> None:
    judged = PRETRAIN.model_copy(update={"validation": Validation(data="@corpus")})
    with pytest.raises(ConfigError, match=r"train.validation.data is a Corpus .* from a Tokens"):
        check(judged, pretraining | {"validation.data": corpus}, NOWHERE)
