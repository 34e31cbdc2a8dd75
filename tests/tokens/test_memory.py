"""The memory of a task follows the shard, not the corpus part."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.artifact import Artifact

TASK = """
import sys
from pathlib import Path
from pipelines.core.artifact import Workspace, open_artifact
from pipelines.core.storage import Store
from pipelines.tokens import stage
from pipelines.tokens.config import TokensConfig
corpus, tokenizer, out = sys.argv[1:]
stage.SHARD_CHARS = 1 << 20
config = TokensConfig(corpus="-", tokenizer="-", packing="best-fit", length=1024)
write = stage._write_shard
def measured(*given):
    counts = write(*given)
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1000)
    return counts
stage._write_shard = measured
inputs = (open_artifact(corpus), open_artifact(tokenizer), Workspace.take(Store.at(out)))
stage._encode_part(config, *inputs, True, (0, "data/part-00000.parquet"))
"""


def part(copies: int) -> bytes:
    """Documents of 20,000 characters, all different, in row groups of ten."""
    words = [f"word{number}" for number in range(3000)]
    texts = [" ".join([f"document {copy}.", *words])[:20_000] for copy in range(copies)]
    buffer = io.BytesIO()
    table = pa.table({"text": texts, "split": ["train"] * copies})
    pq.write_table(table, buffer, row_group_size=10)
    return buffer.getvalue()


def test_shard_after_shard_takes_no_more(
    make_artifact: Callable[..., Artifact], folders: dict[str, Path], tmp_path: Path
) -> None:
    """Twelve shards of a million characters, 3 MB each in memory: after four the rest add nothing.

    Before that the allocator keeps what it was given; 1 to 2 MB up and down were seen after.
    """
    files = {path.name: path.read_bytes() for path in folders["bpe"].iterdir()}
    tokenizer = make_artifact("Tokenizer", "tokenizer", files)
    corpus = make_artifact("Corpus", "corpus", {"data/part-00000.parquet": part(600)})
    command = [sys.executable, "-c", TASK, corpus.uri, tokenizer.uri, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes = [int(figure) for figure in done.stdout.split()]
    assert len(kilobytes) == 12
    assert max(kilobytes[4:]) - max(kilobytes[:4]) < 12_000
