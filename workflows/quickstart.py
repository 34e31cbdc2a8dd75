"""Which library does a text document? From this Python environment's docs to a served int8 model.

    rayline run quickstart

Needs no download: the corpus is the documentation inside the packages that are installed here.
"""

import sys

from pydantic import Field

from pipelines.compress.config import CompressConfig, Distill, Quantize
from pipelines.core.config import Config
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import PythonDocs
from pipelines.evaluate.config import EvaluateConfig, TfidfLinear
from pipelines.export.config import ExportConfig, LiteRT, Onnx
from pipelines.infer.config import InferConfig
from pipelines.model.config import NANO, ModelConfig
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokens.config import TokensConfig
from pipelines.train.config import Optimise, TrainConfig

PACKAGES = (
    "jax", "matplotlib", "mlflow", "networkx", "numpy", "pandas", "ray", "scipy", "sklearn",
    "sqlalchemy", "stdlib", "sympy", "torch", "transformers",
)  # fmt: skip


class Settings(Config):
    """What `rayline run quickstart key=value` can change; `step.field=value` reaches the rest."""

    packages: tuple[str, ...] = Field(default=PACKAGES, description="libraries told apart")
    labelled: int = Field(default=500, ge=100, description="labelled rows fine-tuning may see")
    seed: int = Field(default=0, ge=0, description="of every random choice")


def build(settings: Settings) -> Workflow:
    """The whole line."""
    flow = Workflow("quickstart")
    seed, rows = settings.seed, settings.labelled
    tune = Optimise(steps=250, batch_rows=32, learning_rate=1e-3, seed=seed)
    docs = flow.add(
        "docs",
        CorpusConfig(
            sources=(PythonDocs(packages=settings.packages),),
            min_words=20,
            min_language_score=0.3,
            holdout=0.15,
        ),
    )
    vocab = flow.add("vocab", TokenizerConfig(corpus=docs, vocab_size=8192, sample_chars=8_000_000))
    tokens = flow.add("tokens", TokensConfig(corpus=docs, tokenizer=vocab, length=64))
    base = flow.add(
        "pretrain",
        TrainConfig(
            data=tokens,
            tokenizer=vocab,
            model=NANO,
            warm_start=True,
            task=MaskedLM(mask_share=0.2),
            optimise=Optimise(steps=1200, batch_rows=16, learning_rate=1e-3, seed=seed),
        ),
    )
    teacher = flow.add(
        "finetune",
        TrainConfig(data=docs, start=base, task=Classify(), optimise=tune, max_rows=rows),
    )
    scratch = flow.add(
        "scratch",
        TrainConfig(
            data=docs, tokenizer=vocab, model=NANO, task=Classify(), optimise=tune, max_rows=rows
        ),
    )
    student = flow.add(
        "student",
        CompressConfig(
            model=teacher,
            data=docs,
            method=Distill(
                student=ModelConfig(layers=1, width=128, heads=2, feedforward=512),
                soft_share=1.0,  # on unlabelled text: the labels stay those the teacher saw
                optimise=Optimise(steps=250, batch_rows=32, learning_rate=1e-3, seed=seed),
            ),
        ),
    )
    small = flow.add("int8", CompressConfig(model=student, data=docs, method=Quantize()))
    mobile = flow.add(
        "mobile", ExportConfig(model=small, probe=docs, format=LiteRT(tolerance=1e-3))
    )
    flow.add("onnx", ExportConfig(model=student, probe=docs, format=Onnx()))
    floor = TfidfLinear(max_rows=rows)
    flow.compare(
        {
            "TF-IDF + linear": flow.add("floor", EvaluateConfig(baseline=floor, data=docs)),
            "from random weights": flow.add(
                "judge-scratch", EvaluateConfig(model=scratch, data=docs)
            ),
            "pretrained, fine-tuned": flow.add("judge", EvaluateConfig(model=teacher, data=docs)),
            "distilled": flow.add("judge-student", EvaluateConfig(model=student, data=docs)),
            "distilled, int8, .tflite": flow.add(
                "judge-mobile", EvaluateConfig(model=mobile, data=docs)
            ),
        }
    )
    flow.add("labels", InferConfig(model=mobile, data=docs, split="test"))
    flow.serve(mobile, "Return the eigenvalues and right eigenvectors of a square array.")
    return flow


if __name__ == "__main__":
    from pipelines.cli import main

    main(["run", "quickstart", *sys.argv[1:]])
