"""Quantised weights lie on each row's int8 grid, load in plain transformers, and stay there."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from pipelines.compress.quantize import gain, quantize, snap

ONE = np.float32(1)
MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def test_a_row_worked_out_by_hand():
    # scale = 2.54 / 127 = 0.02, so 1.0 is 50 steps, -0.05 is -2.5 (to even: -2) and 0.029 is 1.
    snapped, scales = snap(np.array([[2.54, 1.0, -0.05, 0.029]], dtype=np.float32), ONE)
    np.testing.assert_allclose(scales, [0.02], rtol=1e-6)
    np.testing.assert_allclose(snapped, [[2.54, 1.0, -0.04, 0.02]], atol=1e-6)


def test_each_row_has_its_own_scale():
    _, scales = snap(np.array([[127, 1], [0.127, 0.001], [0, 0]], dtype=np.float32), ONE)
    np.testing.assert_allclose(scales, [1, 0.001, 1], rtol=1e-6)


def test_with_a_gain_it_is_the_product_that_lies_on_the_grid():
    matrix, gains = np.array([[1.0, 0.3, 5.0]], np.float32), np.array([1.27, 0.5, 0.0], np.float32)
    snapped, scales = snap(matrix, gains)
    # The product is [1.27, 0.15, 0]: scale 0.01, 127 and 15 steps. A gain of 0 hides its column.
    np.testing.assert_allclose(scales, [0.01], rtol=1e-6)
    np.testing.assert_allclose(snapped * gains, [[1.27, 0.15, 0]], atol=1e-6)
    assert snapped[0, 2] == 5


@pytest.mark.parametrize(
    ("matrix", "norm"),
    [
        ("bert.encoder.layer.0.attention.self.key", "bert.embeddings"),
        ("bert.encoder.layer.1.attention.self.value", "bert.encoder.layer.0.output"),
        ("bert.encoder.layer.1.intermediate.dense", "bert.encoder.layer.1.attention.output"),
        ("bert.encoder.layer.1.output.dense", None),
        ("classifier", None),
    ],
)
def test_a_matrix_is_rounded_with_the_gain_of_the_norm_it_reads(tiny_classifier, matrix, norm):
    weights = load_file(tiny_classifier.local() / "model.safetensors")
    found = gain(f"{matrix}.weight", weights)
    expected = 1 if norm is None else weights[f"{norm}.LayerNorm.weight"].numpy()
    np.testing.assert_array_equal(found, expected)


@given(MATRICES)
def test_no_weight_moves_by_more_than_half_a_step(matrix):
    snapped, scales = snap(matrix, ONE)
    # One float32 rounding of the product comes on top of the half step.
    assert (np.abs(snapped - matrix) <= 0.5 * scales[:, None] * 1.00001 + 1e-12).all()


@given(MATRICES)
def test_a_second_time_changes_nothing_visible(matrix):
    once, _ = snap(matrix, ONE)
    twice, _ = snap(once, ONE)
    np.testing.assert_allclose(twice, once, rtol=3e-7)  # the scale is rounded anew: 1-2 units


@given(MATRICES)
def test_a_row_takes_at_most_255_values(matrix):
    snapped, scales = snap(matrix, ONE)
    levels = snapped / scales[:, None]
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert np.abs(levels).max() < 127.001


@pytest.fixture(scope="module")
def folder(tiny_classifier, tmp_path_factory):
    target = tmp_path_factory.mktemp("quantised")
    quantize(tiny_classifier.local(), target)
    return target


def test_matrices_are_on_the_grid_and_the_rest_is_untouched(tiny_classifier, folder):
    before = load_file(tiny_classifier.local() / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        expected = weight
        if weight.ndim == 2:
            expected = torch.from_numpy(snap(weight.numpy(), gain(name, before))[0])
        assert torch.equal(after[name], expected), name
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_plain_transformers_loads_it_and_answers_nearly_the_same(tiny_classifier, folder):
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.inference_mode():
        before, after = (
            AutoModelForSequenceClassification.from_pretrained(path)(ids).logits
            for path in (tiny_classifier.local(), folder)
        )
    assert 0 < (before - after).abs().max() < 0.2


def test_the_report_counts_a_scale_a_row(folder):
    report = json.loads((folder / "quantization.json").read_text())
    matrices = report["matrices"]
    assert matrices["classifier.weight"]["scales"] == 2
    assert matrices["bert.embeddings.word_embeddings.weight"]["scales"] == 45
    # Half a step of 1/127 of the row's largest weight, itself at most the matrix's.
    assert all(0 <= facts["max_error"] <= 0.5 / 127 + 1e-6 for facts in matrices.values())


def test_the_same_model_gives_the_same_bytes(tiny_classifier, folder, tmp_path):
    quantize(tiny_classifier.local(), tmp_path)
    names = sorted(file.name for file in folder.iterdir())
    assert names == sorted(file.name for file in tmp_path.iterdir())
    assert "artifact.json" not in names
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)
