"""A language model's report: hand-worked figures, and the stage against transformers' own loss."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.artifact import Artifact
from pipelines.core.errors import ConfigError
from pipelines.evaluate import stage
from pipelines.evaluate.config import EvaluateConfig, TfidfLinear
from pipelines.evaluate.language import judge_language, judge_tokens, token_bytes
from pipelines.model.build import Vocabulary, build
from pipelines.model.checkpoint import save_model
from pipelines.model.config import ModelConfig
from pipelines.tasks.protocol import Batch
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import end_of_text, open_backend
from pipelines.tokenizer.fast import Library
from pipelines.tokenizer.load import encode_texts, open_tokenizer
from pipelines.tokenizer.train import train
from pipelines.tokens import shards
from pipelines.tokens.pack import concat, flat
from tests.tasks.by_step import ByStep

Committed = Callable[[str, Path], Artifact]

TEXT = "Two foxes ran. The dog slept; nobody knows it, naïve as they are.\n"
SHAPE = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32}


class Given(ByStep):
    """A task whose losses are told, one a batch: two tokens each."""

    objectives = {"token_loss": 1.0}  # noqa: RUF012

    def __init__(self, losses: list[float]) -> None:
        self._losses = losses

    def parts(self, step: int) -> list[Batch]:
        targets = {"targets": torch.tensor([1, 2])}
        return [Batch(targets, {"token_loss": 2}, (step,), tokens=2)]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"token_loss": torch.tensor(self._losses[batch.rows[0]])}


def test_perplexity_and_bits_per_byte_by_hand() -> None:
    import numpy as np

    task = Given([2.0, 4.0])
    order = {"steps": 2, "resamples": 500, "seed": 0}
    found = judge_language(torch.nn.Identity(), task, np.array([0, 3, 5]), **order)
    # 6 nats over 4 tokens, and over the 16 bytes that entries 1 and 2 stand for, twice.
    assert found["loss"] == 1.5
    assert found["perplexity"] == pytest.approx(math.exp(1.5))
    assert found["bits_per_byte"] == pytest.approx(6 / math.log(2) / 16)
    # Two batches of mean 1 and 2: one in four resamples is all the one, one all the other.
    assert found["interval"] == [1.0, 2.0]
    assert (found["rows"], found["tokens"]) == (2, 4)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_the_bytes_of_a_texts_tokens_are_those_of_the_text(kind: str, tmp_path: Path) -> None:
    facts = {"corpus": "-", "kind": kind, "vocab_size": 310}
    train(TokenizerConfig.model_validate(facts), [TEXT] * 3).save_pretrained(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    sizes = token_bytes(tokenizer)
    (ids,) = encode_texts(tokenizer, [TEXT])
    assert not sizes[tokenizer.all_special_ids].any()
    match kind:
        case "bpe":
            text = TEXT
        case "unigram":
            text = " " + TEXT.strip()
        case _:  # what WordPiece keeps, with a space before each word and mark
            entries = tokenizer.convert_ids_to_tokens(ids)
            text = " " + " ".join(entries).replace(" ##", "")
    assert sizes[ids].sum() == len(text.encode())


def saved(folder: Path, vocab: Path, architecture: str, task: dict[str, str]) -> Path:
    """An untrained Model of one layer."""
    shape = ModelConfig.model_validate(SHAPE | {"architecture": architecture})
    model = build(shape, Vocabulary.of(open_tokenizer(vocab)), None, 0)
    save_model(model, vocab, task, 64, folder)
    return folder


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    """A byte-level tokenizer."""
    folder = tmp_path / "vocab"
    train(TokenizerConfig(corpus="-", kind="bpe", vocab_size=300), [TEXT]).save_pretrained(folder)
    return folder


@pytest.fixture
def judged(
    tmp_path: Path, vocab: Path, make_artifact: Callable[..., Artifact]
) -> dict[str, Artifact]:
    """A Model of an untrained decoder, and Tokens of eight documents end to end."""
    folder = saved(tmp_path / "model", vocab, "llama", {"kind": "causal-lm"})
    backend, end = open_backend(vocab), end_of_text(vocab)
    encoded = concat(flat([(n, TEXT * n) for n in range(1, 9)], Library(backend), end), 64)
    size = backend.get_vocab_size()
    facts = {"length": 64, "vocab_size": size, "tokenizer": "0" * 64}
    index = shards.index([encoded.counts], packing="concat", end=end, **facts)
    files = shards.files(0, encoded, size) | {shards.INDEX: index}
    weights = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        "model": make_artifact("Model", "train", weights),
        "data": make_artifact("Tokens", "tokens", files),
    }


def test_a_masked_model_is_judged_on_its_masks_alone(
    judged: dict[str, Artifact], vocab: Path, committed: Committed, tmp_path: Path
) -> None:
    task = {"kind": "masked-lm", "pair": "none"}
    folder = saved(tmp_path / "encoder", vocab, "bert", task)
    config = EvaluateConfig(model="@m", data="@t", resamples=20, max_rows=16)
    report = judge_tokens(config, committed("Model", folder), judged["data"])
    assert report["rows"] == 16
    assert "bits_per_byte" not in report
    assert 0.1 < report["tokens"] / (16 * 64) < 0.2  # 15 % are masked
    assert report["loss"] == pytest.approx(math.log(300), rel=0.1)


def test_a_classifier_is_not_judged_on_tokens(
    judged: dict[str, Artifact], vocab: Path, committed: Committed, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "other", vocab, "bert", {"kind": "classify"})
    config = EvaluateConfig(model="@m", data="@t")
    with pytest.raises(ConfigError, match="made by task classify, which is judged on a Corpus"):
        judge_tokens(config, committed("Model", folder), judged["data"])


@pytest.mark.ray
def test_the_stage_reports_a_language_models_loss(
    ray_local: None, judged: dict[str, Artifact], step_for: Callable[..., Any]
) -> None:
    config = EvaluateConfig(model="@m", data="@t", resamples=50)
    step = step_for(config, judged)
    outcome = stage.make(config, step)
    report = json.loads(step.out.read("report.json"))
    # An untrained model knows nothing: about ln 300 a token.
    assert report["loss"] == pytest.approx(math.log(300), rel=0.1)
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(report["loss"]))
    assert outcome.metrics["loss_low"] <= report["loss"] <= outcome.metrics["loss_high"]
    assert outcome.metrics["bits_per_byte"] > 0
    assert outcome.counts["tokens"] == report["tokens"]
    again = step_for(config, judged, name="again")
    stage.make(config, again)
    assert again.out.read("report.json") == step.out.read("report.json")


def test_what_does_not_go_with_tokens_is_refused(
    judged: dict[str, Artifact], step_for: Callable[..., Any]
) -> None:
    config = EvaluateConfig(model="@m", data="@t", split="test")
    with pytest.raises(ConfigError, match=r"evaluate\.split has no effect on Tokens"):
        stage.make(config, step_for(config, judged))
    floor = EvaluateConfig(baseline=TfidfLinear(), data="@t")
    with pytest.raises(ConfigError, match="only a Model can be judged on"):
        stage.make(floor, step_for(floor, {"data": judged["data"]}))
