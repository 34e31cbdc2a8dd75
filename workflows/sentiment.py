"""The mission's own story: clean text, MLM + NSP, fine-tune on reviews, compress, serve.

    rayline run sentiment reviews=train.jsonl held_out=dev.jsonl text=books.jsonl review_field=text

By default the reviews are SST-2 and the text WikiText, read from the Hub.
"""

import sys

from pydantic import Field

from pipelines.compress.config import CompressConfig, Distill, Quantize
from pipelines.core.config import Config
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import Files
from pipelines.evaluate.config import EvaluateConfig
from pipelines.export.config import ExportConfig, LiteRT
from pipelines.model.config import MINI, NANO
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokens.config import TokensConfig
from pipelines.train.config import Optimise, TrainConfig

SST2 = "hf://datasets/stanfordnlp/sst2/data"
WIKITEXT = "hf://datasets/Salesforce/wikitext/wikitext-2-raw-v1"


class Settings(Config):
    """What `rayline run sentiment key=value` can change; `step.field=value` reaches the rest."""

    text: str = Field(default=f"{WIKITEXT}/train-*.parquet", description="prose learnt from first")
    reviews: str = Field(default=f"{SST2}/train-*.parquet", description="labelled reviews")
    held_out: str = Field(default=f"{SST2}/validation-*.parquet", description="reviews judged on")
    review_field: str = Field(default="sentence", description="field of the reviews' text")
    label_field: str = Field(default="label", description="field of the reviews' label")
    seed: int = Field(default=0, ge=0, description="of every random choice")


def build(settings: Settings) -> Workflow:
    """The whole line."""
    flow = Workflow("sentiment")
    seed = settings.seed

    def labelled(path: str) -> Files:
        return Files(paths=(path,), text=settings.review_field, label=settings.label_field)

    # Reviews are short phrases, which rules made for web pages would drop.
    plain = {"rules": (), "languages": (), "near_duplicates": None}
    prose = flow.add(
        "prose",
        CorpusConfig(sources=(Files(paths=(settings.text,)), labelled(settings.reviews)), **plain),
    )
    rated = flow.add("rated", CorpusConfig(sources=(labelled(settings.reviews),), **plain))
    held_out = flow.add("held-out", CorpusConfig(sources=(labelled(settings.held_out),), **plain))
    vocab = flow.add("vocab", TokenizerConfig(corpus=prose, vocab_size=8192))
    tokens = flow.add("tokens", TokensConfig(corpus=prose, tokenizer=vocab, length=64))
    base = flow.add(
        "pretrain",
        TrainConfig(
            data=tokens,
            tokenizer=vocab,
            model=MINI,
            task=MaskedLM(),
            optimise=Optimise(steps=5000, batch_rows=32, learning_rate=7e-4, seed=seed),
        ),
    )
    task = Classify(max_length=64)
    teacher = flow.add(
        "finetune",
        TrainConfig(
            data=rated,
            start=base,
            task=task,
            optimise=Optimise(steps=2000, batch_rows=32, learning_rate=2e-4, seed=seed),
        ),
    )
    student = flow.add(
        "student",
        CompressConfig(
            model=teacher,
            data=rated,
            judge_split="train",
            method=Distill(
                student=NANO,
                optimise=Optimise(steps=2000, batch_rows=32, learning_rate=1e-3, seed=seed),
            ),
        ),
    )
    small = flow.add(
        "int8",
        CompressConfig(model=student, data=rated, judge_split="train", method=Quantize()),
    )
    mobile = flow.add(
        "mobile", ExportConfig(model=small, probe=held_out, format=LiteRT(lengths=(16, 32, 64)))
    )

    def judge(name: str, **subject: object) -> str:
        return flow.add(
            name, EvaluateConfig.model_validate({"data": held_out, "split": ""} | subject)
        )

    flow.compare(
        {
            "pretrained, fine-tuned": judge("judge", model=teacher),
            "distilled, int8, .tflite": judge("judge-mobile", model=mobile),
        }
    )
    flow.serve(mobile, "a gripping, beautifully acted film")
    return flow


if __name__ == "__main__":
    from pipelines.cli import main

    main(["run", "sentiment", *sys.argv[1:]])
