"""A language model that writes: from this Python environment's docs to a judged decoder.

    rayline run decoder
    rayline run decoder packages='["stdlib"]' pretrain.model=llama-nano pretrain.optimise.steps=50

Needs no download. On a cluster the same lines pretrain a larger model: `pretrain.model=llama-1.1b`,
`pretrain.optimise.shards=16 pretrain.optimise.parallel=shard` and `--workers 16`.
"""

import sys

from pydantic import Field

from pipelines.core.config import Config
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import PythonDocs
from pipelines.evaluate.config import EvaluateConfig
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import CausalLM
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokens.config import TokensConfig
from pipelines.train.config import Optimise, TrainConfig, Validation, WarmupStableDecay

PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "stdlib", "torch", "transformers")


class Settings(Config):
    """What `rayline run decoder key=value` can change; `step.field=value` reaches the rest."""

    packages: tuple[str, ...] = Field(default=PACKAGES, description="libraries whose docs are read")
    length: int = Field(default=256, ge=8, description="tokens a row")
    seed: int = Field(default=0, ge=0, description="of every random choice")


def build(settings: Settings) -> Workflow:
    """Text, vocabulary, rows of whole documents, a decoder, its held-out perplexity."""
    flow = Workflow("decoder")
    docs = flow.add(
        "docs",
        CorpusConfig(
            sources=(PythonDocs(packages=settings.packages),),
            min_words=20,
            min_language_score=0.3,
            holdout=0.05,
        ),
    )
    vocab = flow.add("vocab", TokenizerConfig(corpus=docs, kind="bpe", vocab_size=4096))
    shared = {
        "corpus": docs, "tokenizer": vocab, "length": settings.length, "packing": "best-fit"
    }  # fmt: skip
    tokens = flow.add("tokens", TokensConfig(**shared))
    held_out = flow.add("held-out", TokensConfig(**shared, split="test"))
    model = flow.add(
        "pretrain",
        TrainConfig(
            data=tokens,
            tokenizer=vocab,
            model=ModelConfig.model_validate("llama-nano"),
            task=CausalLM(),
            optimise=Optimise(
                steps=600,
                batch_rows=16,
                learning_rate=3e-3,
                schedule=WarmupStableDecay(),
                seed=settings.seed,
            ),
            validation=Validation(data=held_out, every=100, rows=64),
        ),
    )
    flow.compare({"decoder": flow.add("judge", EvaluateConfig(model=model, data=held_out))})
    return flow


if __name__ == "__main__":
    from pipelines.cli import main

    main(["run", "decoder", *sys.argv[1:]])
