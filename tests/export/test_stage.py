"""Export on Ray makes a Bundle that runs alone, or refuses."""

import pytest

from pipelines.core.errors import ArtifactError, ConfigError
from pipelines.engines.predictor import load
from pipelines.export.config import ExportConfig, Onnx
from pipelines.export.stage import make

ROWS = [(f"a b {row}", "no", "train") for row in range(20)]


@pytest.mark.ray
def test_an_onnx_bundle_is_made_and_proven_or_refused(
    ray_local, tiny_classifier, make_corpus, step_for, tmp_path
):
    config = ExportConfig(model="@m", probe="@d", format=Onnx(), probe_rows=12)
    step = step_for(config, {"model": tiny_classifier, "probe": make_corpus(ROWS)})
    outcome = make(config, step)
    assert outcome.counts == {"rows": 12}
    assert outcome.metrics["max_logit_difference"] < 1e-4
    assert outcome.metrics["agreement"] == 1
    step.out.store.download(step.out.names(), tmp_path / "copy")
    texts = [text for text, _, _ in ROWS]
    expected = load(tiny_classifier.local()).predict(texts)
    found = load(tmp_path / "copy").predict(texts)
    assert [one.label for one in found] == [one.label for one in expected]

    # The file that an earlier try left is proven anew: beyond the tolerance the stage fails.
    strict = ExportConfig(model="@m", probe="@d", format=Onnx(tolerance=1e-12))
    again = step_for(strict, dict(step.inputs), name="strict")
    again.out.write("model.onnx", step.out.read("model.onnx"))
    with pytest.raises(
        ArtifactError, match=r"made.jsonl:\d+ a logit differs .* tolerance is 1e-12"
    ):
        make(strict, again)

    # Nor does it meet that file again: another converter may do better.
    assert not again.out.exists("model.onnx")


def test_an_architecture_whose_mask_would_be_lost_is_refused(make_artifact, make_corpus, step_for):
    config = ExportConfig(model="@m", probe="@d", format=Onnx())
    files = {"config.json": b'{"model_type": "modernbert"}'}
    inputs = {"model": make_artifact("Model", "train", files), "probe": make_corpus(ROWS)}
    with pytest.raises(ConfigError, match=r"is a modernbert; expected a bert"):
        make(config, step_for(config, inputs))
