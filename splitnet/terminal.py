"""What the command line shows: tables on standard output, progress on standard error, quiet when asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

WIDTH_OF_A_FILE = 110
"""Columns where standard output is no terminal."""


class Terminal:
    """Standard output for results, standard error for progress (which a file or a pipe does not get)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._out = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE, highlight=False)
        self._progress = Console(stderr=True)

    def print(self, what: Any) -> None:
        """Show text or a rich table."""
        if not self._quiet:
            self._out.print(what, markup=False)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        """Show rows under a head."""
        table = Table(caption=caption, caption_justify="left", box=None, pad_edge=False)
        for name in head:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.print(table)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A bar; the function takes what is done, the total (0: not known yet) and what is going on."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        shown = self._progress.is_terminal and not self._quiet
        with Progress(*columns, console=self._progress, transient=True, disable=not shown) as bar:
            task = bar.add_task(title, total=None)

            def step(done: int, total: int, text: str) -> None:
                bar.update(task, completed=done, total=total or None, description=text)

            yield step

    @contextmanager
    def live(self) -> Iterator[Callable[[RenderableType], None]]:
        """What is handed to the function stands there, in place of what stood there before, until the block ends."""
        if not self._progress.is_terminal or self._quiet:
            yield lambda what: None
            return
        with Live(console=self._progress, transient=True, auto_refresh=False) as shown:
            yield lambda what: shown.update(what, refresh=True)

    @contextmanager
    def waiting(self, title: str) -> Iterator[None]:
        """A spinner while something of unknown length goes on."""
        with self.progress(title):
            yield
