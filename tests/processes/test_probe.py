"""Probes of the link between two real workers: what they find, what they refuse, and what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from splitnet.cli import main
from splitnet.errors import SettingsError, WorkerError
from splitnet.measurement import COMPONENTS
from splitnet.probing import KIND, LinkProbe, load_probe, probe_link, save_probe
from splitnet.runtime.client import Client
from splitnet.runtime.link import Link
from splitnet.runtime.messages import Connect, Connected, Echo, Probe, Probed, Result
from splitnet.runtime.probe_values import LARGEST_PROBE_BYTES
from splitnet.session import Placement, SplitSession
from splitnet.wire.encoding import encode_values

if TYPE_CHECKING:
    from tests.processes.conftest import Standalone

SIZES = (1_000, 40_000, 600_000)
WRONG_SIZES = [(2, 4000), (1002, 4000), (LARGEST_PROBE_BYTES + 4, 4000), (-4, 4000), (1000, 0), (1000, 1 << 62)]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], placement: Placement) -> Command:
    """Exit status, standard output and standard error of `probe-link` on the shared workers."""

    def run(*arguments: object) -> tuple[int, str, str]:
        where = ["--gateway", str(placement.gateway), "--ap", str(placement.ap)]
        with pytest.raises(SystemExit) as ended:
            main(["probe-link", *where, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture(scope="module")
def probed(shared: tuple[Standalone, Standalone]) -> LinkProbe:
    """A probe of 50 Mbit/s and 5 ms, with an inference before, between and after."""
    paced = Placement(gateway=shared[0].address, ap=shared[1].address, link=Link.parse("50mbit+5ms"))
    with SplitSession("toy_chain", paced) as split:
        assert split.measure(2).bitwise_equal
        probe = probe_link(split, SIZES, repeats=5)
        assert split.measure(2).bitwise_equal
    return probe


def test_a_paced_link_is_found_again(probed: LinkProbe) -> None:
    model = probed.model()
    assert model.rate_bps == pytest.approx(50e6, rel=0.05)
    assert 4.9e-3 <= model.delay_s <= 9e-3  # on a busy machine waking takes its milliseconds
    assert 0 < model.message_s < 5e-3
    assert [row.sent_bytes for row in probed.rows()] == list(SIZES)
    assert len(probed.samples) == 5 * len(SIZES)
    for sample in probed.samples:
        line = sample.timeline
        assert line.gateway_s == 0
        assert line.link_s >= sample.sent_bytes * 8 / 50e6 + 5e-3 - 1e-6
        assert line.return_s is not None
        assert line.return_s >= sample.answer_bytes * 8 / 50e6 + 5e-3 - 1e-6
        assert sum(getattr(line, name) for name in COMPONENTS) == pytest.approx(line.total_s, abs=1e-9)


def test_a_saved_probe_is_read_back_whole_or_not_at_all(probed: LinkProbe, tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    save_probe(path, probed, "")
    assert load_probe(path) == probed
    assert load_probe(path).model() == probed.model()
    whole = path.read_text()
    edited = whole.replace('"payload_bytes": 1000', '"payload_bytes": 1004', 1)
    wrong = json.dumps({"kind": KIND, "version": 99})
    for content in (whole[:-30], edited, wrong, "{}", ""):
        assert content != whole
        path.write_text(content)
        with pytest.raises(SettingsError, match="probe again: splitnet probe-link -o FILE"):
            load_probe(path)
    with pytest.raises(SettingsError, match=r"cannot read .*missing"):
        load_probe(tmp_path / "missing")


def test_one_session_goes_on_over_another_link(placement: Placement) -> None:
    with SplitSession("toy_chain", placement) as split:
        assert split.measure(2).bitwise_equal
        for text, least_s in (("loopback+30ms", 30e-3), ("1mbit", 8e-3), ("loopback", 0.0)):
            split.relink(Link.parse(text))
            assert split.placement == replace(placement, link=Link.parse(text))
            assert split.probe(1000).timeline.link_s >= least_s
            assert split.measure(2).bitwise_equal
        split.relink(Link.parse("1mbit"))
        assert (split.probe(4, answer_bytes=5000).timeline.return_s or 0) >= 40e-3


def test_a_codec_makes_a_probe_smaller(placement: Placement) -> None:
    with SplitSession("toy_chain", placement) as split:
        sent = {codec: split.probe(40_000, codec=codec).sent_bytes for codec in ("none", "fp16", "int8", "int8+lz4")}
    assert (sent["none"], sent["fp16"], sent["int8"]) == (40_000, 20_000, 10_000)
    assert 2_500 < sent["int8+lz4"] < 10_000, "half of an activation behind a ReLU is zeros, and half is not"


def test_no_model_is_needed_but_an_ap_is(gateway: Standalone, ap: Standalone) -> None:
    with Client.connect(gateway.address, role="gateway") as client:
        with pytest.raises(WorkerError, match="a probe needs an AP, and this gateway is connected to none"):
            client.ask(Probe(1000, 1000), Probed)
        client.ask(Connect(ap.address.host, ap.address.port), Connected)
        answer = client.ask(Probe(1000, 4), Probed).message
        assert answer.sent_bytes == 1000
        assert answer.timeline.ap is not None


@pytest.mark.parametrize(("payload_bytes", "answer_bytes"), WRONG_SIZES)
def test_a_size_that_cannot_be_is_refused_and_the_next_probe_is_served(
    payload_bytes: int, answer_bytes: int, gateway: Standalone, ap: Standalone
) -> None:
    with Client.connect(gateway.address, role="gateway") as client:
        client.ask(Connect(ap.address.host, ap.address.port), Connected)
        with pytest.raises(WorkerError, match=r"bytes is refused; give a multiple of 4 from 4 to 268435456$"):
            client.ask(Probe(payload_bytes, answer_bytes), Probed)
        assert client.ask(Probe(1000, 1000), Probed).message.sent_bytes == 1000
    with Client.connect(ap.address, role="ap") as client:  # whoever asks the AP itself
        encoded = encode_values([torch.ones(10)])
        answered = client.ask(Echo(encoded.specs, 2000), Result, encoded.buffers)
        assert answered.body.numel() == 2000
        with pytest.raises(WorkerError, match="bytes is refused"):
            client.ask(Echo(encoded.specs, 6), Result, encoded.buffers)
        with pytest.raises(WorkerError, match="an AP does not know Probe"):
            client.ask(Probe(1000, 1000), Probed)


def test_the_command_prints_and_saves_what_it_found(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "link.json"
    status, out, err = command("--link", "loopback+7ms", "--repeats", 1, "--json", "-o", file)
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert told["rows"][0]["up_s"] >= 7e-3
    assert told["settings"]["link"] == "loopback+7ms"
    assert set(told["workers"]) == {"gateway", "ap"}
    assert json.loads(json.dumps(load_probe(file).to_dict())) == told
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "link.png"]


def test_the_command_shows_a_table_and_one_line(command: Command) -> None:
    status, out, err = command("--repeats", 1)
    assert (status, err) == (0, "")
    assert "left out" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("rate ")
    assert "ms one way" in last


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--repeats", 0], "--repeats 0 is below 1"),
        (["--link", "50"], "link '50': '50' is no rate"),
        (["-o", "no/such/link.json"], "the folder no/such does not exist"),
        (["-o", "link.png"], "link.png is the picture's place; give a file such as link.json"),
        (["-o", "."], "is a folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(command: Command, arguments: list[object], complaint: str) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_too_little_to_fit_is_refused_before_it_is_probed(placement: Placement) -> None:
    with SplitSession("toy_chain", placement) as split:
        with pytest.raises(SettingsError, match="1 sizes to probe"):
            probe_link(split, (1000, 1000))
        with pytest.raises(SettingsError, match="--repeats 0"):
            probe_link(split, SIZES, repeats=0)
