"""Settings that would do nothing are refused, and placement of checkpoints is no identity."""

import pytest

from pipelines.core.config import identity, parse
from pipelines.core.errors import ConfigError
from pipelines.train.config import Optimise, TrainConfig

SHAPE = {"layers": 1, "width": 16, "heads": 2, "feedforward": 32}
PRETRAIN = {
    "data": "@t",
    "tokenizer": "@v",
    "model": SHAPE,
    "task": {"kind": "masked-lm"},
    "optimise": {"steps": 1},
}
WSD = {"kind": "wsd"}
TUNE = PRETRAIN | {"task": {"kind": "classify"}}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (PRETRAIN | {"split": "train"}, "split has no effect on masked-lm"),
        (PRETRAIN | {"max_rows": 9}, "max_rows has no effect on masked-lm"),
        (TUNE | {"model": SHAPE | {"dropout": 0.1}}, "model.dropout .* classify; set task.dropout"),
        (TUNE | {"warm_start": True}, "warm_start has an effect only on Tokens and a model from"),
        (
            PRETRAIN | {"validation": {"data": "@h", "split": "test"}},
            "validation.split has no effect on masked-lm",
        ),
        (
            PRETRAIN | {"task": {"kind": "causal-lm"}},
            "causal-lm is a task of the family decoder, and model.architecture=bert",
        ),
        (PRETRAIN | {"pretrained": "there"}, "set one of start .* pretrained .* and model"),
        (PRETRAIN | {"model": "modernbert-nano"}, "modernbert has no head for pairs"),
        (
            PRETRAIN | {"optimise": {"steps": 9, "warmup": 0.5, "schedule": WSD | {"decay": 0.6}}},
            "together they must not be more than 1",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(TrainConfig, settings, "test")


def test_where_it_has_an_effect_it_is_taken() -> None:
    parse(TrainConfig, TUNE | {"split": "train", "max_rows": 9}, "test")
    parse(TrainConfig, PRETRAIN | {"model": SHAPE | {"dropout": 0.1}, "warm_start": True}, "test")


def test_how_often_a_checkpoint_is_kept_is_not_what_a_model_is() -> None:
    often, seldom = (
        identity(Optimise(steps=9, checkpoint_steps=n, checkpoint_s=n)) for n in (1, 9)
    )
    assert often == seldom
    assert often != identity(Optimise(steps=8))
