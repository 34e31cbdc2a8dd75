"""The tokens stage on a local Ray: same bytes on any number of CPUs and after any interruption."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pipelines.core.artifact import Artifact
from pipelines.core.errors import DataError
from pipelines.core.workflow import Step
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.shards import Tokens
from pipelines.tokens.stage import make

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

CONFIG = TokensConfig(corpus="@corpus", tokenizer="@tokenizer", length=32)
Made = dict[str, Artifact]


@pytest.fixture
def inputs(
    make_artifact: Callable[..., Artifact], parts: dict[str, bytes], folders: dict[str, Path]
) -> Made:
    files = {path.name: path.read_bytes() for path in folders["wordpiece"].iterdir()}
    return {
        "corpus": make_artifact("Corpus", "corpus", parts),
        "tokenizer": make_artifact("Tokenizer", "tokenizer", files),
    }


def committed(step: Step) -> dict[str, bytes]:
    """What would be committed of a step's files."""
    return {name: step.out.read(name) for name in step.out.names() if not name.startswith(".")}


def test_rows_decode_to_the_documents_of_the_split(
    step_for: Callable[..., Step], inputs: Made
) -> None:
    step = step_for(CONFIG, inputs)
    outcome = make(CONFIG, step)
    tokens = Tokens(step.out.store.uri)
    assert outcome.counts["documents"] == 24
    assert outcome.counts["rows"] == tokens.num_rows
    assert outcome.counts["tokens"] == tokens.lengths.sum()
    assert tokens.lengths.max() <= 29
    assert len(set(tokens.documents.tolist())) == 24
    tokenizer = AutoTokenizer.from_pretrained(inputs["tokenizer"].local())
    first = [tokens.row(i).ids for i in range(tokens.num_rows) if tokens.documents[i] == 0]
    text = tokenizer.decode([token for ids in first for token in ids.tolist()])
    assert text.startswith("the fox ran. the dog slept!")
    assert "[ sep ]" in text  # a special token's text stayed text


def test_one_cpu_and_two_give_the_same_bytes(step_for: Callable[..., Step], inputs: Made) -> None:
    import ray.data

    limits = ray.data.ExecutionResources
    options = ray.data.DataContext.get_current().execution_options
    written = []
    for cpus in (1, 2):
        options.resource_limits = limits(cpu=cpus)
        step = step_for(CONFIG, inputs, f"cpus-{cpus}")
        make(CONFIG, step)
        written.append(committed(step))
    options.resource_limits = limits()
    assert len(written[0]) == 3 * 3 + 1
    assert written[0] == written[1]


def test_a_killed_try_is_finished_to_the_same_bytes(
    step_for: Callable[..., Step], inputs: Made
) -> None:
    """Shard 0 was whole, shard 1 lacked its counts and was torn, shard 2 was not begun."""
    whole = step_for(CONFIG, inputs, "whole")
    make(CONFIG, whole)
    killed = step_for(CONFIG, inputs, "killed")
    for name in ("tokens", "rows", "sentences"):
        killed.out.write(f"{name}-00000.npy", whole.out.read(f"{name}-00000.npy"))
    killed.out.write(".counts/00000.json", whole.out.read(".counts/00000.json"))
    killed.out.write("tokens-00001.npy", b"torn")
    kept = Path(killed.out.store.locate("tokens-00000.npy")).stat().st_mtime_ns
    resumed = step_for(CONFIG, inputs, "killed")
    outcome = make(CONFIG, resumed)
    assert committed(resumed) == committed(whole)
    assert Path(resumed.out.store.locate("tokens-00000.npy")).stat().st_mtime_ns == kept
    assert outcome.counts["documents"] == 24


def test_an_empty_split_means_every_document(step_for: Callable[..., Step], inputs: Made) -> None:
    config = CONFIG.model_copy(update={"split": ""})
    assert make(config, step_for(config, inputs)).counts["documents"] == 32


def test_progress_counts_shards_up_to_all(step_for: Callable[..., Step], inputs: Made) -> None:
    step = step_for(CONFIG, inputs)
    points: list[dict[str, object]] = []
    outcome = make(CONFIG, Step(step.name, step.inputs, step.out, step.placement, points.append))
    assert [(point["step"], point["steps"]) for point in points] == [(1, 3), (2, 3), (3, 3)]
    assert points[-1]["tokens"] == outcome.counts["tokens"]


def test_a_split_with_no_text_is_an_error(step_for: Callable[..., Step], inputs: Made) -> None:
    config = CONFIG.model_copy(update={"split": "dev"})
    with pytest.raises(DataError, match="no text in split 'dev'"):
        make(config, step_for(config, inputs))
