"""Every objective lowers its held-out loss: the benchmark, with few steps on little text."""

import gzip
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = ("en_books", "en_web_ewt", "en_wikitext2_valid")
ROW = re.compile(r"\| ([^|]+) \|[^|]+\|[^|]+\|[^|]+\| ([\d.]+) \| \*\*([\d.]+)\*\*")


@pytest.mark.slow
def test_every_objective_lowers_its_held_out_loss(shared_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "pretrain").mkdir(parents=True)
    for name in TEXTS:
        with gzip.open(shared_data / f"pretrain/{name}.jsonl.gz", "rt") as lines:
            few = list(itertools.islice(lines, 60))
        with gzip.open(data / f"pretrain/{name}.jsonl.gz", "wt") as file:
            file.writelines(few)
    for name in ("lm_eval", "models"):
        shutil.copytree(shared_data / name, data / name)
    results = tmp_path / "objectives.md"
    script = [sys.executable, "benchmarks/objectives.py", "--data", str(data)]
    asked = ["--steps", "8", "--pairs", "20", "--results", str(results)]
    subprocess.run([*script, *asked], cwd=ROOT, check=True)
    found = ROW.findall(results.read_text())
    assert len(found) == 8
    for name, before, after in found:
        assert float(after) < float(before) - 0.2, name
