"""Model -> Bundle: one deployable file and its tokenizer, proven equal to the model or refused.

A Ray worker converts: the converters are noisy, take gigabytes and may crash, and none of that
should meet the driver. A file that an earlier, killed try wrote is proven again, not made again.
"""

from collections.abc import Mapping
from pathlib import Path

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import remotely
from pipelines.core.errors import ConfigError
from pipelines.core.storage import scratch
from pipelines.core.workflow import Outcome, Step
from pipelines.engines.timing import median_ms
from pipelines.export.bundle import build, file_name
from pipelines.export.config import ExportConfig
from pipelines.export.parity import Parity, require
from pipelines.model.layout import config_facts
from pipelines.tasks.classify import select

EXPORTED = "bert"  # transformers takes the mask of `engines/convert.py` for all of its layers


def make(config: ExportConfig, step: Step) -> Outcome:
    """Convert, prove, describe.

    Raises:
        ConfigError: the model is of an architecture whose conversion is not known to be exact.
        ArtifactError: the model is no classifier, or its file's logits differ from its own by more
            than the tolerance.
        DataError: the probe corpus is empty.
    """
    model = step.inputs["model"]
    if (kind := config_facts(model.local())["model_type"]) != EXPORTED:
        raise ConfigError(
            f"export.model at {model.uri} is a {kind}; expected a {EXPORTED}: the mask that is "
            f"exported would lose a {kind}'s own, such as its windows"
        )
    parity, latency_ms = remotely(_export, config, dict(step.inputs), step.out)
    file = file_name(config.format)
    if not parity.holds():
        step.out.delete(file)  # else the next try would prove the same bytes again
    require(parity, f"{step.name}: {file}")
    return Outcome(
        counts={"rows": parity.texts},
        metrics={
            "max_logit_difference": parity.max_logit_difference,
            "agreement": parity.agreement,
            "size_mb": step.out.store.size(file) / 1e6,
        },
        measured={"latency_ms": latency_ms},
    )


def _export(
    config: ExportConfig, inputs: Mapping[str, Artifact], out: Workspace
) -> tuple[Parity, float]:
    """The parity of the Bundle that is now in `out`, and its median milliseconds a probe text."""
    rows = select(inputs["probe"].local(), "", config.probe_rows)
    probe = list(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    file = file_name(config.format)
    with scratch() as name:
        folder = Path(name)
        if out.exists(file):
            (folder / file).write_bytes(out.read(file))
        parity, exported = build(config.format, inputs["model"].local(), probe, folder)
        out.put(folder)
    return parity, median_ms(lambda text: exported.predict([text]), [text for _, text in probe])
