"""The mutation run (tests/mutants.py) itself, over a package of three mutants."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="pip install -e '.[mutation]'")

CODE = """
def add(a, b):
    return a + b

def positive(a):
    return a > 0
"""
#: Notices a - b and a > 1, but not a >= 0.
TESTS = """
from package.area.sums import add, positive

def test_sums():
    assert add(2, 3) == 5
    assert positive(1) and not positive(-1)
"""
CHECK = """
import sys, hypothesis, pytest, mutants
from pathlib import Path
root = Path(sys.argv[1])
done = mutants.check(root, ["package/area/*.py"], 200, 1, 60, root.parent / "report.json")
print(mutants.table(done))
"""


def test_a_run_counts_what_the_tests_notice_and_leaves_the_project_alone(tmp_path):
    root = tmp_path / "project"
    files = {"package/area/sums.py": CODE, "tests/area/test_sums.py": TESTS}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    args = [sys.executable, "-c", CHECK, str(root)]
    done = subprocess.run(
        args, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert sorted(each["outcome"] for each in report) == ["noticed", "noticed", "survived"]
    survivor = next(each for each in report if each["outcome"] == "survived")
    assert (survivor["file"], survivor["line"]) == ("package/area/sums.py", 6)
    assert survivor["diff"].splitlines() == ["-    return a > 0", "+    return a >= 0"]
    assert done.stdout.splitlines()[-1].split() == ["all", "3", "2", "0", "1", "66.7%"]
    assert {name: (root / name).read_text() for name in files} == files
