"""Exported files give torch's logits in their own runtime, from one set of bytes."""

import subprocess
import sys

import numpy as np
import pytest

from pipelines.core.errors import ArtifactError
from pipelines.engines.convert import to_int8, to_onnx, to_tflite
from pipelines.engines.litert import LiteRTEngine
from pipelines.engines.onnx import OnnxEngine
from pipelines.engines.predictor import Bundle, describe
from pipelines.engines.torch_engine import TorchEngine

IDS = [[2, 5, 3], [2, 5, 6, 7, 3], [2, *range(5, 19), 3], [2, *range(5, 30), 3]]
FACTS = describe(Bundle("any", ["no", "yes"], 32, 0))


@pytest.fixture(scope="module")
def torch_engine(tiny_classifier):
    return TorchEngine(tiny_classifier.local())


@pytest.fixture(scope="module")
def files(tmp_path_factory, torch_engine):
    """One folder with the model in float32 (`.tflite` and `.onnx`), one in int8, one dynamic."""
    root = tmp_path_factory.mktemp("files")
    for precision in ("float32", "int8", "dynamic"):
        (root / precision).mkdir()
        (root / precision / "bundle.json").write_bytes(FACTS)
    plain = root / "float32" / "model.tflite"
    to_tflite(torch_engine, (32, 16), plain)
    to_int8(plain, root / "int8" / "model.tflite")
    to_int8(plain, root / "dynamic" / "model.tflite", compute=True)
    to_onnx(torch_engine, 20, root / "float32" / "model.onnx")
    return root


def test_litert_equals_torch(files, torch_engine):
    found = LiteRTEngine(files / "float32").logits(IDS)
    # Different kernels, the same float32 arithmetic: 1e-6 to 1.5e-5 on every shape measured.
    np.testing.assert_allclose(found, torch_engine.logits(IDS), atol=5e-5)


def test_onnx_equals_torch_at_any_batch_and_length(files, torch_engine):
    engine = OnnxEngine(files / "float32")
    np.testing.assert_allclose(engine.logits(IDS), torch_engine.logits(IDS), atol=5e-5)
    np.testing.assert_allclose(engine.logits(IDS[:1]), torch_engine.logits(IDS[:1]), atol=5e-5)


@pytest.mark.parametrize("precision", ["int8", "dynamic"])
def test_int8_is_near_torch_but_not_equal(files, torch_engine, precision):
    difference = np.abs(LiteRTEngine(files / precision).logits(IDS) - torch_engine.logits(IDS))
    assert 1e-4 < difference.max() < 0.5  # half a step of 1/127 in each of some ten matrices


def test_padding_does_not_reach_the_logits(files):
    engine = LiteRTEngine(files / "float32")
    short = engine.logits([IDS[0]])
    engine._runners.pop(16)  # the same text in the longer signature: 29 padded places, not 13
    np.testing.assert_allclose(engine.logits([IDS[0]]), short, atol=5e-5)


def test_a_text_longer_than_every_signature_is_an_error(files):
    with pytest.raises(ValueError, match="33 tokens, the longest signature holds 32"):
        LiteRTEngine(files / "float32").logits([[2] * 33])


@pytest.mark.parametrize(
    ("engine", "name"), [(LiteRTEngine, "model.tflite"), (OnnxEngine, "model.onnx")]
)
@pytest.mark.parametrize("content", [None, b"not a model"])
def test_a_broken_file_is_refused(tmp_path, engine, name, content):
    (tmp_path / "bundle.json").write_bytes(FACTS)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}: .* cannot open it"):
        engine(tmp_path)


SCRIPT = """
import sys
from pathlib import Path
from pipelines.engines.convert import to_int8, to_onnx, to_tflite
from pipelines.engines.torch_engine import TorchEngine
engine, out = TorchEngine(Path(sys.argv[1])), Path(sys.argv[2])
to_tflite(engine, (16, 32), out / "plain.tflite")
to_int8(out / "plain.tflite", out / "model.tflite")
to_onnx(engine, 20, out / "model.onnx")
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes_and_prints_nothing(files, tiny_classifier, tmp_path):
    command = [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT]
    command += [str(tiny_classifier.local()), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    for precision, name in (("int8", "model.tflite"), ("float32", "model.onnx")):
        assert (tmp_path / name).read_bytes() == (files / precision / name).read_bytes()
