"""Fixtures that several chapters' tests share: a local Ray, hand-made artifacts, real data."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from pipelines.core import cluster
from pipelines.core.artifact import Artifact, Workspace, commit
from pipelines.core.config import Placement, StageConfig
from pipelines.core.storage import Store
from pipelines.core.workflow import Step

cluster.prepare()
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
# Short, because a unix socket's path may have 107 bytes.
os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="rl", dir="/tmp")


ROOT = Path(__file__).parent.parent
# Here every run looks for new counterexamples; CI repeats the same ones, so it fails for a change.
hypothesis.settings.register_profile("ci", derandomize=True)
if "CI" in os.environ:
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data, or a skip that says why."""
    folder = Path(os.environ.get("RAYLINE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set RAYLINE_DATA")
    return folder


@pytest.fixture(scope="session")
def standard_docs() -> list[str]:
    """Docstrings of Python's own library of 200 characters and more: real texts on any machine."""
    from pipelines.corpus.python_docs import docstrings, modules

    found = (
        text
        for module in modules("stdlib", 400)
        for text in docstrings(Path(module.path).read_bytes())
    )
    return [text for text in found if len(text) >= 200]


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """`s3://rayline` on a real S3 server (moto) that the standard variables point to."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        boto3.client("s3").create_bucket(Bucket="rayline")
        yield "s3://rayline"
    server.stop()


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """One small local Ray for a module's tests."""
    with cluster.session(Placement(storage=tempfile.mkdtemp(prefix="rayline-test-"), cpus=2)):
        yield
    os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Artifact]:
    """Commit an artifact of given files: `make_artifact("Corpus", "corpus", {"a": b".."})`."""

    def make(kind: str, stage: str, files: dict[str, bytes], **facts: object) -> Artifact:
        name = str(facts.pop("name", stage))
        work = Workspace.take(Store.at(str(tmp_path / ".work" / stage / name)))
        for path, data in files.items():
            work.write(path, data)
        record = {"kind": kind, "stage": stage, "name": name, "fingerprint": "0" * 64}
        record |= {"identity": {}, "inputs": {}} | facts
        return commit(work, Store.at(str(tmp_path / stage / name)), record)

    return make


@pytest.fixture
def make_corpus(make_artifact: Callable[..., Artifact]) -> Callable[..., Artifact]:
    """Commit a Corpus of rows (text, label, split): `make_corpus([("a b", "no", "test")])`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(rows: list[tuple[str, str | None, str]], name: str = "corpus") -> Artifact:
        texts, labels, splits = zip(*rows, strict=True)
        table = pa.table(
            {
                "id": [f"made.jsonl:{row}" for row in range(len(rows))],
                "text": texts,
                "label": pa.array(labels, pa.string()),
                "language": ["en"] * len(rows),
                "split": splits,
                "source": ["made.jsonl"] * len(rows),
                "row": range(len(rows)),
            }
        )
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream)
        files = {"data/part-00000.parquet": stream.getvalue().to_pybytes()}
        return make_artifact("Corpus", "corpus", files, name=name)

    return make


@pytest.fixture
def step_for(tmp_path: Path) -> Callable[..., Step]:
    """A Step with given inputs and a fresh (or the same, by name) workspace."""

    def make(config: StageConfig, inputs: dict[str, Artifact], name: str = "step") -> Step:
        work = Workspace.take(Store.at(str(tmp_path / ".work" / config.stage / name)))
        placement = Placement(storage=str(tmp_path))
        return Step(name, inputs, work, placement, lambda facts: None)

    return make


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A committed Model: an untrained two-class BERT of two layers; it knows letters and digits."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from pipelines.model.checkpoint import save_model

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [
        *special,
        *(f"{mark}{sign}" for mark in ("", "##") for sign in "abcdefghij0123456789"),
    ]
    vocab = {piece: at for at, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, special, strict=True))
    )
    root = tmp_path_factory.mktemp("tiny")
    tokenizer.save_pretrained(root / "tokenizer")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,  # so that texts get clearly different scores
        id2label={0: "no", 1: "yes"},
    )
    model = BertForSequenceClassification(config)
    for name, weight in model.named_parameters():
        if "LayerNorm.weight" in name:  # as after training: exporters treat a gain of 1 apart
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    save_model(model, root / "tokenizer", {"kind": "classify"}, 32, root / "model")
    work = Workspace.take(Store.at(str(root / ".work")))
    work.put(root / "model")
    facts = {"kind": "Model", "stage": "train", "name": "tiny", "fingerprint": "0" * 64}
    return commit(work, Store.at(str(root / "artifact")), facts | {"identity": {}, "inputs": {}})


@pytest.fixture
def committed(make_artifact: Callable[..., Artifact]) -> Callable[[str, Path], Artifact]:
    """Commit a folder's files as an artifact of a kind."""

    def commit_folder(kind: str, folder: Path) -> Artifact:
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return make_artifact(kind, kind.lower(), files)

    return commit_folder
