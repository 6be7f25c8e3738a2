"""What the README shows, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\S+ True [\d.]+ ms\n", done.stdout)


def test_every_command_it_names_exists() -> None:
    from typer.main import get_group

    from splitnet.cli import app

    known = set(get_group(app).commands)
    named = set(re.findall(r"(?:^    (?:\w+\$ +)?|`)splitnet ([a-z-]+)", README.read_text(), flags=re.MULTILINE))
    assert {"bench", "worker", "check"} <= named
    assert named <= known
