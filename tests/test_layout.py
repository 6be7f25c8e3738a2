"""The house keeps its shape: folders, links, the direction of imports, what a wheel holds."""

from __future__ import annotations

import ast
import fnmatch
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("models", "profiling", "controller")

# --- the rules of imports: modules (with all below them) and what they must not reach, however indirectly

CORE = tuple(
    f"splitnet.{name}"
    for name in (
        "errors",
        "inference",
        "tracing",
        "recording",
        "cuts",
        "fingerprint",
        "graph",
        "slicing",
        "plan",
        "measurement",
        "wire",
    )
)
LIBRARIES = tuple(f"splitnet.{name}" for name in LINKED)
WORKERS = tuple(
    f"splitnet.{name}"
    for name in (
        "runtime",
        "session",
        "benching",
        "probing",
        "calibrating",
        "validating",
        "simulating.run",
        "simulating.workers",
        "running",
        "machines",
        "commands",
        "cli",
        "testbed",
    )
)
CONSENSUS_RULES = tuple(
    f"splitnet.consensus.{name}"
    for name in (
        "accusations",
        "audit",
        "audit_records",
        "auditor",
        "block",
        "canonical",
        "catching_up",
        "chain",
        "contact",
        "difficulty",
        "entry",
        "errors",
        "genesis",
        "gossip",
        "instructions",
        "merkle",
        "messages",
        "orphans",
        "plan",
        "pool",
        "proof_of_work",
        "receipt",
        "receipt_memory",
        "registry",
        "sizes",
        "validation",
        "values",
    )
)
"""All but the node, its store and its processes."""
SOCKETS = ("socket", "socketserver", "ssl", "asyncio", "selectors", "multiprocessing", "subprocess", "http")
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib")

RULES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (CORE, LIBRARIES + WORKERS),
    (LIBRARIES, WORKERS),
    (("splitnet.wire",), SOCKETS),
    (CONSENSUS_RULES, (*SOCKETS, *WORKERS, "sqlite3")),
    (("splitnet",), PICKLES),
)


def below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def shipped() -> Iterator[Path]:
    """Every file of the package, through the links."""
    for folder, subfolders, names in os.walk(ROOT / "splitnet", followlinks=True):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        yield from (Path(folder, name) for name in names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(module: str, is_package: bool, source: str) -> set[str]:
    """Dotted names that the source imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: None if is_package else -1]
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def violations(imports: Mapping[str, set[str]]) -> list[str]:
    """Each forbidden way, as `a -> b -> c`."""
    found = []
    for subjects, forbidden in RULES:
        for module in sorted(imports):
            if not below(module, subjects):
                continue
            ways = [[module]]
            seen = {module}
            while ways:
                way = ways.pop()
                # `splitnet` itself only re-exports what its modules hold; the modules are followed one by one
                for target in sorted(imports.get(way[-1], set()) - seen - {"splitnet"}):
                    seen.add(target)
                    if below(target, forbidden) and not below(module, forbidden):
                        found.append(" -> ".join([*way, target]))
                    elif not below(target, subjects):  # those are looked at on their own
                        ways.append([*way, target])
    return found


def package_imports() -> dict[str, set[str]]:
    sources = [path for path in shipped() if path.suffix == ".py"]
    return {
        module_name(path): imports_of(module_name(path), path.stem == "__init__", path.read_text())
        for path in sources
    }


def test_imports_point_one_way() -> None:
    imports = package_imports()
    assert {"splitnet.measurement", "splitnet.errors", "splitnet.profiling.machine"} <= imports.keys()
    assert "\n".join(violations(imports)) == ""


@pytest.mark.parametrize(
    ("module", "source", "way"),
    [
        ("splitnet.graph", "from splitnet.models import toy", "splitnet.graph -> splitnet.models"),
        ("splitnet.graph", "from . import runtime", "splitnet.graph -> splitnet.runtime"),
        ("splitnet.slicing", "def f():\n    import splitnet.cli", "splitnet.slicing -> splitnet.cli"),
        ("splitnet.models.zoo", "from ..runtime.ap import Ap", "splitnet.models.zoo -> splitnet.runtime.ap"),
        (
            "splitnet.controller.dpra",
            "from splitnet import benching",
            "splitnet.controller.dpra -> splitnet.benching",
        ),
        ("splitnet.wire.frames", "import socket", "splitnet.wire.frames -> socket"),
        ("splitnet.wire.frames", "from asyncio import Protocol", "splitnet.wire.frames -> asyncio"),
        ("splitnet.runtime.ap", "import pickle as p", "splitnet.runtime.ap -> pickle"),
        (
            "splitnet.plan",
            "import splitnet.helper",
            "splitnet.plan -> splitnet.helper -> splitnet.runtime.ap",
        ),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str, way: str) -> None:
    helper = imports_of("splitnet.helper", False, "import splitnet.runtime.ap")
    assert way in violations({module: imports_of(module, False, source), "splitnet.helper": helper})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("splitnet.models.zoo", "from splitnet.graph import Graph\nimport torch"),
        ("splitnet.runtime.ap", "import socket\nfrom splitnet.models import zoo"),
        ("splitnet.graph", "from splitnet import errors\nimport socketry, modelsx"),
    ],
)
def test_a_permitted_import_is_not_found(module: str, source: str) -> None:
    assert violations({module: imports_of(module, False, source)}) == []


def loads_objects(source: str) -> list[int]:
    """Lines with a `torch.load` that may unpickle whole objects."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func) == "torch.load"
        and not any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords)
    ]


def test_torch_load_takes_weights_only() -> None:
    assert loads_objects("torch.load(f, weights_only=True)\ntorch.load(f)\ntorch.load(f, weights_only=x)") == [2, 3]
    found = {str(path): loads_objects(path.read_text()) for path in shipped() if path.suffix == ".py"}
    assert {path: lines for path, lines in found.items() if lines} == {}


# --- folders and links


def test_top_level_folders_are_the_fixed_ones() -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    found = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name != ".git" and not any(fnmatch.fnmatch(path.name, one) for one in ignored)
    }
    assert found == {"splitnet", "models", "profiling", "controller", "benchmarks", "tests", ".ci"}


@pytest.mark.parametrize("name", LINKED)
def test_a_top_level_folder_is_linked_into_the_package(name: str) -> None:
    link = ROOT / "splitnet" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert not (ROOT / name / "__init__.py").exists()
    assert (ROOT / name / "README.md").read_text().startswith(f"# {name}")


def test_links_are_committed_as_links() -> None:
    command = ["git", "ls-files", "--stage", *(f"splitnet/{name}" for name in LINKED)]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    if not listed:
        pytest.skip("nothing is committed yet")
    assert {line.split("\t")[1]: line.split()[0] for line in listed.splitlines()} == {
        f"splitnet/{name}": "120000" for name in LINKED
    }


# --- the wheel


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    leave = shutil.ignore_patterns(".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, symlinks=True, ignore=leave)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - metadata == {path.relative_to(ROOT).as_posix() for path in shipped()}
    assert {f"splitnet/{name}/README.md" for name in LINKED} <= names
    assert "splitnet/profiling/machine.py" in names
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)
