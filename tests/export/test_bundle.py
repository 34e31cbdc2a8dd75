"""A Bundle folder runs alone, reads what its model reads, and repeats byte for byte."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pipelines.compress.quantize import quantize
from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import load
from pipelines.engines.torch_engine import TorchEngine
from pipelines.export.bundle import build, lengths
from pipelines.export.config import LiteRT, Onnx

PROBE = [(f"f:{row}", " ".join("abcdefghij"[: row + 1]) * (row + 1)) for row in range(10)]
TEXTS = [text for _, text in PROBE]


@pytest.fixture(scope="module")
def quantised(tiny_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    quantize(tiny_classifier.local(), folder)
    return folder


@pytest.fixture(scope="module")
def tflite(quantised, tmp_path_factory):
    """An int8 `.tflite` Bundle of a quantised model, and its parity."""
    folder = tmp_path_factory.mktemp("tflite")
    parity, _ = build(LiteRT(lengths=(16, 32, 64)), quantised, PROBE, folder)
    return folder, parity


def test_an_int8_file_of_a_quantised_model_is_exact(tflite, quantised):
    folder, parity = tflite
    # The file's 8-bit values and scales are the model's own; only float32 sums differ.
    assert parity.max_logit_difference < 5e-5
    assert parity.agreement == 1
    found, expected = load(folder).logits(TEXTS), load(quantised).logits(TEXTS)
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_a_bundle_predicts_without_loading_torch(tflite):
    code = (
        "import sys; from pathlib import Path; from pipelines.engines.predictor import load\n"
        f"load(Path({str(tflite[0])!r})).predict(['a b c'])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"  # 4 s of a replica's start


def test_bundle_json_tells_what_it_is(tflite):
    folder, parity = tflite
    facts = json.loads((folder / "bundle.json").read_text())
    assert facts["parity"]["max_logit_difference"] == parity.max_logit_difference
    del facts["parity"]
    assert facts == {
        "compute": "float32",
        "format": "tflite",
        "int8": True,
        "labels": ["no", "yes"],
        "lengths": [16, 32],  # the model reads 32 tokens, so a signature for 64 has no use
        "max_length": 32,
        "pad_id": 0,
        "tolerance": 0.25,
    }


def test_a_file_that_is_there_is_proven_again_not_made_again(tflite, quantised, tmp_path):
    folder, parity = tflite
    (tmp_path / "model.tflite").write_bytes((folder / "model.tflite").read_bytes())
    before = (tmp_path / "model.tflite").stat().st_mtime_ns
    again, _ = build(LiteRT(lengths=(16, 32)), quantised, PROBE, tmp_path)
    assert again == parity
    assert (tmp_path / "model.tflite").stat().st_mtime_ns == before
    assert (tmp_path / "bundle.json").read_bytes() == (folder / "bundle.json").read_bytes()


def test_another_models_file_fails_its_proof(tflite, tmp_path, quantised):
    folder, _ = tflite
    tampered = bytearray((quantised / "model.safetensors").read_bytes())
    tampered[-400:] = bytes(400)  # the last matrix's rows become zeros
    for file in quantised.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(tampered)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.tflite").write_bytes((folder / "model.tflite").read_bytes())
    parity, _ = build(LiteRT(lengths=(16, 32)), tmp_path, PROBE, tmp_path / "out")
    assert not parity.holds()


def test_a_bundle_is_not_exported_again(tflite, tmp_path):
    with pytest.raises(ArtifactError, match="is a Bundle, expected a Model"):
        build(Onnx(), tflite[0], PROBE, tmp_path)


@pytest.mark.parametrize(
    ("asked", "made"),
    [((64, 8, 32), (8, 32)), ((8, 16), (8, 16, 32)), ((128,), (32,)), ((), (32,))],
)
def test_the_last_length_is_the_most_that_the_model_reads(tiny_classifier, asked, made):
    engine = TorchEngine(tiny_classifier.local())  # reads 32 tokens
    assert lengths(LiteRT(lengths=asked), engine) == made


def test_a_long_text_is_read_to_its_end_whatever_lengths_were_asked_for(quantised, tmp_path):
    probe = [("f:0", "a " * 20 + "b " * 9)]
    parity, exported = build(LiteRT(lengths=(8,)), quantised, probe, tmp_path)
    assert parity.max_logit_difference < 5e-5
    assert exported.max_length == load(quantised).max_length == 32


@pytest.mark.parametrize("length", [0, -1, 1])
def test_a_length_that_holds_no_text_is_refused(length):
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        LiteRT(lengths=(32, length))


def test_computing_in_int8_needs_int8():
    with pytest.raises(ValueError, match="compute=int8 needs int8=true"):
        LiteRT(int8=False, compute="int8")
