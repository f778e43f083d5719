"""Deliberate faults, one at a time, and whether the tests notice them: ``make mutants``.

The faults ("mutants") are made by mutmut's operators. Each is written into a copy of the project
and run against the tests of the same folder (of ``muppet_dag/model/losses.py``: ``tests/model``),
its own test file first, then those that name the module most. mutmut's runner is not used: it
keeps all mutants of a function side by side in one process, which decorated functions, constants
and workers in processes of their own do not bear. Torch and the like are loaded once, and each
mutant gets a fork.

Left out by rule, since no behaviour hangs on them: what mutmut leaves out (annotations, docstrings,
``len`` and ``isinstance``), texts within ``raise`` and calls of a log, ``strict=`` of ``zip``,
``encoding=``, and constants named ``VERSION``.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).parents[1]
TARGETS = (
    "muppet_dag/model/*.py", "muppet_dag/mixture/*.py", "muppet_dag/evaluation/*.py",
    "muppet_dag/training/*.py", "muppet_dag/corpus/tokenize.py", "muppet_dag/corpus/encode.py",
    "muppet_dag/corpus/query.py",
)  # fmt: skip
#: What takes seconds to import, and knows nothing of this project.
LOADED = ("datasets", "duckdb", "hypothesis", "pytest", "scipy.stats", "sklearn.metrics",
    "transformers.models.bart.modeling_bart",
    "transformers.models.bert.modeling_bert", "transformers.models.roberta.modeling_roberta",
)  # fmt: skip
OUTCOMES = ("noticed", "timeout", "survived")
_LOGS = m.Raise() | m.Call(func=m.Attribute(value=m.Name("log") | m.Name("warnings")))
_VERSION = m.Name(m.MatchIfTrue(lambda name: "VERSION" in name))
_EXEMPT = m.Arg(keyword=m.Name("strict") | m.Name("encoding")) | m.Assign(
    targets=[m.AssignTarget(target=_VERSION)]
)


@dataclass
class Mutant:
    """A fault, and what became of it: ``by`` is the first test that failed."""

    file: str
    line: int
    diff: str
    outcome: str = ""
    by: str = ""
    seconds: float = 0.0


class _Visitor(MutationVisitor):
    """mutmut's mutations of a module; in decorated functions too, but not in what is exempt."""

    def __init__(self) -> None:
        super().__init__(mutation_operators, IgnoredCode(set(), set(), set()))
        self._texts: set[cst.CSTNode] = set()

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if m.matches(node, _LOGS):
            self._texts |= set(m.findall(node, m.SimpleString()))
        decorated = isinstance(node, cst.FunctionDef) and bool(node.decorators)
        exempt = node in self._texts or m.matches(node, _EXEMPT)
        return exempt or (not decorated and super()._skip_node_and_children(node))

    def _removes_ignored_code(self, node: cst.CSTNode, mutated_node: cst.CSTNode) -> bool:
        kept = mutated_node.args if isinstance(mutated_node, cst.Call) else ()
        args = node.args if isinstance(node, cst.Call) else ()
        return any(m.matches(arg, _EXEMPT) and arg not in kept for arg in args)


def sample(root: Path, targets: Sequence[str], seed: int) -> Iterator[tuple[Mutant, str]]:
    """All mutants in random order, each with its file's text. Unchanged code keeps its order."""
    drawn: dict[str, tuple[Path, cst.Module, Mutation]] = {}
    for path in sorted(path for each in targets for path in root.glob(each)):
        wrapper, visitor = cst.MetadataWrapper(cst.parse_module(path.read_text())), _Visitor()
        wrapper.visit(visitor)
        module, seen = wrapper.module, Counter()
        for each in visitor.mutations:
            nodes = each.original_node, each.mutated_node
            key = (seed, path.name, *(module.code_for_node(node) for node in nodes))
            seen[key] += 1
            drawn[hashlib.sha256(repr((key, seen[key])).encode()).hexdigest()] = (
                path,
                module,
                each,
            )
    for _, (path, module, each) in sorted(drawn.items()):
        text = deep_replace(module, each.original_node, each.mutated_node).code
        lines = module.code.splitlines(), text.splitlines()
        where, *diff = list(difflib.unified_diff(*lines, lineterm="", n=0))[2:]
        with contextlib.suppress(SyntaxError):  # "return" outside a function
            compile(text, path, "exec")
            line = int(re.match(r"@@ -(\d+)", where)[1])
            yield Mutant(str(path.relative_to(root)), line, "\n".join(diff)), text


def tests_of(root: Path, file: str) -> list[str]:
    """The test files of a module's folder, nearest first."""
    module, folder = Path(file).stem, root / "tests" / Path(file).parent.name
    near = {f: len(re.findall(rf"\b{module}\b", f.read_text())) for f in folder.glob("test_*.py")}
    order = sorted(near, key=lambda f: (f.stem != f"test_{module}", -near[f], f))
    return [str(f.relative_to(root)) for f in order]


def run(root: Path, tests: Sequence[str], seconds: float) -> str:
    """The first failure of the tests in a fork, or "" where none came within the time.

    A test that takes half of the time is a failure.
    """
    with tempfile.TemporaryFile("w+") as out:
        if (pid := os.fork()) == 0:
            _child(root, [*tests, f"--timeout={seconds / 2}"], out.fileno())
        deadline, status = time.monotonic() + seconds, None
        while status is None and time.monotonic() < deadline:
            time.sleep(0.05)
            ended, code = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # with the workers that tests left behind
        if status is None:
            os.waitpid(pid, 0)
        out.seek(0)
        failures = re.findall(r"^(?:FAILED tests|ERROR tests|E  .*Timeout).+", out.read(), re.M)
    return (failures or [f"exit {status}"])[0] if status else ""


def _child(root: Path, args: Sequence[str], out: int) -> None:
    status = 99
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(root)
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", f"--rootdir={root}"]
        status = int(importlib.import_module("pytest").main([*args, *options]))
    finally:
        os._exit(status)


def check(
    root: Path, targets: Sequence[str], size: int, seed: int, seconds: float, report: Path,
    again: bool = False,
) -> list[Mutant]:  # fmt: skip
    """Run a sample of a project's mutants. The report is complete after each of them.

    What a report holds that is there is not run again; with ``again``, what no test noticed is.
    """
    old = [Mutant(**each) for each in json.loads(report.read_text())] if report.exists() else []
    known = {(e.file, e.diff): e for e in old if e.outcome == "noticed" or not again}
    done: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(root, Path(folder, root.name))
        for file in sorted({str(Path(each).with_name("__init__.py")) for each in targets}):
            if not old and (by := run(copy, tests_of(copy, file), seconds)):
                raise SystemExit(f"Without any mutant, a test fails: {by}")
        for mutant, text in itertools.islice(sample(copy, targets, seed), size):
            before = known.get((mutant.file, mutant.diff))
            done.append(before or _outcome(copy, mutant, text, seconds))
            last = done[-1]
            print(
                f"{len(done)}/{size}", last.outcome, f"{last.file}:{last.line}", last.by, flush=True
            )
            report.write_text(json.dumps([asdict(each) for each in done], indent=1))
    return done


def _copy(root: Path, copy: Path) -> Path:
    """A copy of all files but those that git ignores."""
    git = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(git, check=True, capture_output=True, text=True).stdout.splitlines()
    for name in filter(lambda name: (root / name).is_file(), files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, copy / name)
    return copy


def _outcome(root: Path, mutant: Mutant, text: str, seconds: float) -> Mutant:
    path, started = root / mutant.file, time.monotonic()
    original = path.read_text()
    path.write_text(text)
    mutant.by = run(root, tests_of(root, mutant.file), seconds)
    path.write_text(original)
    mutant.outcome = OUTCOMES[2 if not mutant.by else "Timeout" in mutant.by]
    mutant.seconds = round(time.monotonic() - started, 1)
    return mutant


def table(done: Sequence[Mutant]) -> str:
    """Counts of outcomes and the share noticed (a timeout counts), by package and in all."""
    rows = [("", "run", *OUTCOMES, "score")]
    for name in [*sorted({str(Path(each.file).parent) for each in done}), ""]:
        counts = Counter(each.outcome for each in done if each.file.startswith(name))
        n = counts.total()
        share = f"{1 - counts['survived'] / n:.1%}"
        rows.append((name or "all", str(n), *(str(counts[kind]) for kind in OUTCOMES), share))
    return "\n".join(f"{row[0]:24}" + "".join(f"{each:>10}" for each in row[1:]) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sample", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300, help="for the tests of one mutant")
    parser.add_argument("--again", action="store_true", help="run what no test noticed once more")
    parser.add_argument("--report", type=Path, default=ROOT / "mutants.json")
    args = parser.parse_args()
    for name in LOADED:
        importlib.import_module(name)
    options = args.sample, args.seed, args.seconds, args.report.resolve(), args.again
    done = check(ROOT, TARGETS, *options)
    for each in done:
        if each.outcome == "survived":
            print(f"\n{each.file}:{each.line}\n{each.diff}")
    print(f"\n{table(done)}")


if __name__ == "__main__":
    main()
