"""The quickstart's line at the size of a test: every stage, seconds each."""

from pydantic import Field

from pipelines.compress.config import CompressConfig, Distill, Quantize
from pipelines.core.config import Config
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import PythonDocs
from pipelines.evaluate.config import EvaluateConfig
from pipelines.export.config import ExportConfig, LiteRT
from pipelines.infer.config import InferConfig
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokens.config import TokensConfig
from pipelines.train.config import Optimise, TrainConfig

TEENY = ModelConfig(layers=1, width=32, heads=2, feedforward=64, max_length=64)


class Settings(Config):
    """What a test varies."""

    packages: tuple[str, ...] = Field(default=("click", "httpx", "jinja2", "pydantic"))
    steps: int = 30


def build(settings: Settings) -> Workflow:
    """Every stage once."""
    flow = Workflow("tiny")
    optimise = Optimise(steps=settings.steps, batch_rows=8, checkpoint_steps=5)
    task = Classify(max_length=32)
    source = PythonDocs(packages=settings.packages, max_files=40)
    docs = flow.add(
        "docs",
        CorpusConfig(sources=(source,), rules=(), holdout=0.2, shard_docs=200),
    )
    vocab = flow.add("vocab", TokenizerConfig(corpus=docs, vocab_size=600, max_length=64))
    tokens = flow.add("tokens", TokensConfig(corpus=docs, tokenizer=vocab, length=32))
    base = flow.add(
        "pretrain",
        TrainConfig(data=tokens, tokenizer=vocab, model=TEENY, task=MaskedLM(), optimise=optimise),
    )
    teacher = flow.add("finetune", TrainConfig(data=docs, start=base, task=task, optimise=optimise))
    student = flow.add(
        "student",
        CompressConfig(model=teacher, data=docs, method=Distill(student=TEENY, optimise=optimise)),
    )
    small = flow.add("int8", CompressConfig(model=student, data=docs, method=Quantize()))
    mobile = flow.add(
        "mobile",
        ExportConfig(model=small, probe=docs, probe_rows=16, format=LiteRT(lengths=(32,))),
    )
    judged = flow.add("judge", EvaluateConfig(model=mobile, data=docs))
    flow.add("labels", InferConfig(model=mobile, data=docs, split="test", shard_rows=50))
    flow.compare({"int8": judged})
    flow.serve(mobile, "Render a template with the given context.")
    return flow
