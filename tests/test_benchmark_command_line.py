"""Command lines of the benchmarks: what cannot be is refused before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.command_line import RESULTS, keep, parser_of
from splitnet.errors import SettingsError


def test_defaults_are_all_sections_and_the_recorded_results() -> None:
    options = parser_of("Links.\n\nmore", "links", quick="less", sections=["rates", "traces"]).parse_args([])
    assert options.only == ("rates", "traces")
    assert options.output == RESULTS / "links.json"
    assert not options.quick


def test_sections_are_asked_for_by_name() -> None:
    options = parser_of("Links.", "links", sections=["rates", "traces"]).parse_args(["--only", "traces"])
    assert options.only == ("traces",)
    assert not hasattr(options, "quick")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "rates,trace"], "no section is called 'trace'; there are rates, traces"),
        (["--output", "{tmp}"], "is no .json file; choose another --output"),
        (["--output", "{tmp}/found.txt"], "is no .json file; choose another --output"),
        (["--output", "{tmp}/file/found.json"], "lies below a file; choose another --output"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        parser_of("Links.", "links", sections=["rates", "traces"]).parse_args(
            [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
        )
    assert message in capsys.readouterr().err


def test_results_are_kept_in_a_folder_that_is_made(tmp_path: Path) -> None:
    keep({"rate": 1}, tmp_path / "new" / "deeper" / "found.json")
    assert json.loads((tmp_path / "new" / "deeper" / "found.json").read_text()) == {"rate": 1}
    with pytest.raises(SettingsError, match="choose another --output"):
        keep({"rate": 1}, tmp_path / "new" / "deeper" / "found.json" / "below.json")
