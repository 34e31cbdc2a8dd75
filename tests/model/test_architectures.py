"""The tables of architectures are complete, and dropout reaches every place a class has for it."""

import pytest
import torch
from torch import nn

from pipelines.model.architectures import (
    CLASSES,
    CLASSIFIERS,
    CONFIGS,
    HEADS,
    PRETRAINING,
    positions,
    set_dropout,
)
from pipelines.model.build import Vocabulary, build, configure
from pipelines.model.config import FAMILIES, ModelConfig

ARCHITECTURES = list(FAMILIES)


def nano(architecture: str, **more: object) -> ModelConfig:
    return ModelConfig.model_validate(f"{architecture}-nano").model_copy(update=more)


def test_every_table_knows_every_architecture():
    for table in (CONFIGS, PRETRAINING, CLASSIFIERS, HEADS):
        assert list(table) == ARCHITECTURES
    assert len(CLASSES) == 2 * len(ARCHITECTURES)
    assert all(config.model_type == name for name, config in CONFIGS.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_of_a_shape_changes_what_is_learnt_from_and_none_does_not(architecture):
    ids = torch.arange(5, 21)[None]
    for share, varies in ((0.0, False), (0.4, True)):
        model = build(nano(architecture, dropout=share), Vocabulary(40, 0, 1, 2, 3), None, seed=0)
        model.train()
        more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        one, other = (model(input_ids=ids, **more)[0] for _ in range(2))
        assert torch.equal(one, other) != varies


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_set_dropout_leaves_no_module_with_another_share(architecture):
    config = configure(nano(architecture, dropout=0.3), Vocabulary(40, 0, 1, 2, 3))
    set_dropout(config, 0.125)
    config._attn_implementation = "eager"
    model = CLASSIFIERS[architecture](config)
    shares = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert shares <= {0.125}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_positions_are_those_of_the_shape(architecture):
    vocabulary = Vocabulary(40, 0, 1, 2, 3)
    assert positions(configure(nano(architecture, max_length=96), vocabulary)) == 96


def test_a_t5_that_names_no_bound_has_none():
    assert positions(CONFIGS["t5"]()) is None
