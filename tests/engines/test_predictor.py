"""Predictions keep the input order, whatever runs the model, and match transformers' own."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import Bundle, describe, load, padded, read_bundle, softmax

TEXTS = ["a b c", "j9", "a 1 2 3 4 5 6 7 8 9 j i h g f", "b", "c d e f", ""]


@pytest.fixture(scope="module")
def folder(tiny_classifier):
    return tiny_classifier.local()


@pytest.fixture(scope="module")
def predictor(folder):
    return load(folder)


def test_logits_equal_plain_transformers(folder, predictor):
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        ids = [2, *tokenizer(text, add_special_tokens=False)["input_ids"][:30], 3]
        with torch.inference_mode():
            expected.append(model(torch.tensor([ids])).logits[0].numpy())
    # Padding to a multiple of 8 reorders float32 sums: a few units in the last place.
    np.testing.assert_allclose(predictor.logits(TEXTS), np.stack(expected), atol=2e-5)


def test_each_text_gets_its_own_prediction_in_input_order(predictor):
    alone = [predictor.predict([text])[0] for text in TEXTS]
    together = predictor.predict(TEXTS)
    backwards = predictor.predict(TEXTS[::-1])[::-1]
    for one, two, three in zip(alone, together, backwards, strict=True):
        assert one.label == two.label == three.label
        assert (
            one.score == pytest.approx(two.score, abs=1e-5) == pytest.approx(three.score, abs=1e-5)
        )


def test_the_score_is_the_labels_probability(predictor):
    for prediction, logits in zip(predictor.predict(TEXTS), predictor.logits(TEXTS), strict=True):
        other = {"no": "yes", "yes": "no"}[prediction.label]
        margin = abs(float(logits[0]) - float(logits[1]))
        assert prediction.score == pytest.approx(1 / (1 + np.exp(-margin)), abs=1e-6)
        assert prediction.scores[other] == pytest.approx(1 - prediction.score, abs=1e-6)


def test_softmax_of_large_logits_does_not_overflow():
    found = softmax(np.array([[1000.0, 1000.0 + np.log(3)]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.25, 0.75]], atol=1e-4)  # float32 near 1000 has 6e-5 steps


def test_no_text_is_no_prediction(predictor):
    assert predictor.predict([]) == []


def test_a_long_text_is_cut_to_the_models_length_with_its_separator(predictor):
    (ids,) = predictor.encode(["a " * 100])
    assert len(ids) == 32
    assert (ids[0], ids[-1]) == (2, 3)


def test_special_token_text_is_ordinary_text(predictor):
    (ids,) = predictor.encode(["[SEP] [PAD]"])
    assert ids.count(3) == 1
    assert 0 not in ids


def test_padding_is_to_a_multiple_of_eight_and_masked():
    ids, mask = padded([[5, 6], [7] * 9], pad_id=1)
    assert ids.shape == (2, 16)
    assert ids[0].tolist() == [5, 6] + [1] * 14
    assert mask.sum(axis=1).tolist() == [2, 9]


def test_a_masked_language_model_is_refused(tmp_path, folder):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = {"max_length": 32, "task": {"kind": "masked-lm"}}
    (tmp_path / "rayline.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"masked-lm model, expected a classify one"):
        load(tmp_path)


def test_what_describes_a_bundle_reads_back(tmp_path):
    facts = Bundle("tflite", ["no", "yes"], 32, 0)
    (tmp_path / "bundle.json").write_bytes(describe(facts, parity={"texts": 3}))
    assert read_bundle(tmp_path) == facts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a readable description"),
        ('{"format": "tflite"}', "labels"),
        (
            '{"format": "pte", "labels": [], "max_length": 8, "pad_id": 0}',
            "expected tflite or onnx",
        ),
    ],
)
def test_a_broken_bundle_is_refused(tmp_path, text, reason):
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(ArtifactError, match=reason):
        load(tmp_path)
