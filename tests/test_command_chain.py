"""`splitnet chain`: verify says which store, block and rule; show and export tell what is stored; new founds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitnet import chains
from splitnet.chains import agreement
from splitnet.consensus.block import Block
from splitnet.consensus.canonical import encode
from splitnet.consensus.database import FILE
from splitnet.consensus.validation import Place
from splitnet.consensus.verifying import Verified
from splitnet.founding import load_network
from tests.commands import Run
from tests.consensus.stored import CONSORTIUM, a_branch, a_chain, edited, fill, hash_in
from tests.consortium import NOW_MS, STARTED_MS, Consortium, Contents, some_rules

ROOT = Path(__file__).parents[1]
NETWORK = CONSORTIUM.rules.network.hex()
BLOCKS = a_chain(CONSORTIUM, 3)
HASHES = [hash_in(CONSORTIUM, block).hex() for block in BLOCKS]
OTHER = Consortium(some_rules(aps=1))


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    """Three APs, one of them a block behind, among other files."""
    folder = tmp_path / "run"
    for name, blocks in (("aps/0", BLOCKS), ("aps/1", BLOCKS[:2]), ("aps/10/deep", BLOCKS)):
        fill(folder / name, blocks, name.encode())
    (folder / "manifest.json").write_text("{}")
    return folder


def tampered(folder: Path) -> None:
    """The second block's signature is another's."""
    data = encode(Block(BLOCKS[1].sealed, BLOCKS[1].body)).replace(BLOCKS[1].sealed.signature, bytes(64))
    with edited(folder) as connection:
        connection.execute("UPDATE blocks SET data = ? WHERE number = 2", (data,))


# --- verify


def test_a_clean_run(run: Run, a_run: Path) -> None:
    ended = run("chain", "verify", a_run)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[:3] == [
        f"aps/0: clean to height 3, head {HASHES[2][:12]}",
        f"aps/1: clean to height 2, head {HASHES[1][:12]}",
        f"aps/10/deep: clean to height 3, head {HASHES[2][:12]}",
    ]
    assert lines[4].split()[:8] == ["aps/0", "3", "2", HASHES[2][:12], "3", "6", "0", "0"]
    told = " ".join(ended.out.split())
    assert "ap-0 2, ap-1 1" in told
    assert f"network {NETWORK}; same chain up to height 2; the longest goes on to height 3" in told


def test_clean_as_json(run: Run, a_run: Path) -> None:
    ended = run("chain", "verify", a_run, "--json", "--network", NETWORK.upper())
    assert (ended.status, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["clean"], told["networks"], told["same_up_to_height"], told["chains_part"]) == (
        True,
        [NETWORK],
        2,
        False,
    )
    assert told["stores"][1] == {
        "store": "aps/1",
        "clean": True,
        "network": NETWORK,
        "height": 2,
        "slot": 1,
        "head": HASHES[1],
        "blocks": 2,
        "receipts": 4,
        "frauds": 0,
        "voids": 0,
        "frauds_not_reexecuted": 0,
        "results": 1,
        "mined": {"ap-0": 1, "ap-1": 1},
    }


def test_a_broken_store_is_named_and_the_others_go_on(run: Run, a_run: Path) -> None:
    tampered(a_run / "aps" / "0")
    (a_run / "aps" / "1" / FILE).write_bytes(b"rubbish")
    ended = run("chain", "verify", a_run)
    assert (ended.status, ended.err) == (1, "")
    first, second, third = ended.out.splitlines()[:3]
    assert first.startswith(
        f"aps/0: BROKEN, rule SealSignature: block 2 ({HASHES[1][:12]}) breaks the rule SealSignature: "
    )
    assert second.startswith("aps/1: BROKEN, rule Store: ")
    assert "it is no SQLite file" in second
    assert third.startswith("aps/10/deep: clean to height 3")
    told = json.loads(run("chain", "verify", a_run, "--json").out)
    assert not told["clean"]
    assert (told["stores"][0]["rule"], told["stores"][0]["height"], told["stores"][0]["block"]) == (
        "SealSignature",
        2,
        HASHES[1],
    )
    assert (told["stores"][1]["rule"], told["stores"][1]["height"]) == ("Store", None)
    assert told["stores"][2]["clean"]


def test_all_broken(run: Run, tmp_path: Path) -> None:
    fill(tmp_path, BLOCKS)
    tampered(tmp_path)
    ended = run("chain", "verify", tmp_path)
    assert (ended.status, ended.out.count("\n")) == (1, 1)
    told = json.loads(run("chain", "verify", tmp_path, "--json").out)
    assert (told["clean"], told["networks"], told["same_up_to_height"]) == (False, [], None)


def test_chains_that_part_and_other_networks_are_said(run: Run, a_run: Path) -> None:
    fill(a_run / "aps" / "2", [BLOCKS[0], a_branch(CONSORTIUM, BLOCKS[0], 9)])
    ended = run("chain", "verify", a_run)
    assert ended.status == 0
    assert "same chain up to height 1, where the chains part; the longest has height 3" in " ".join(ended.out.split())
    fill(a_run / "aps" / "3", [], consortium=OTHER)
    ended = run("chain", "verify", a_run)
    assert ended.status == 1, "each is clean, and they do not belong together"
    assert "BROKEN" not in ended.out
    assert "the stores are of 2 networks" in " ".join(ended.out.split())
    ended = run("chain", "verify", a_run, "--network", NETWORK)
    assert ended.status == 1
    (broken,) = [line for line in ended.out.splitlines() if "BROKEN" in line]
    assert broken.startswith("aps/3: BROKEN, rule Store: ")
    assert f"is of network {OTHER.rules.network.hex()}, not of {NETWORK}" in broken


@pytest.mark.parametrize("common", range(6))
@pytest.mark.parametrize("longer", [0, 1, 9])
def test_the_common_height_is_what_a_walk_finds(common: int, longer: int) -> None:
    def one(mark: int, length: int) -> Verified:
        hashes = tuple(bytes([height if height <= common else 100 * mark + height]) for height in range(length + 1))
        return Verified(bytes(32), hashes, 0, length, 0, 0, 0, 0, 0, {})

    found = agreement([one(1, common + longer), one(2, common + 1), one(1, common + 2)])
    assert (found.networks, found.height, found.parted) == (1, common, longer > 0)
    assert found.highest == max(common + longer, common + 2)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_links_are_neither_followed_nor_passed_over(run: Run, a_run: Path, tmp_path: Path, what: str) -> None:
    fill(tmp_path / "outside", BLOCKS)
    tampered(tmp_path / "outside")
    link = a_run / "link"
    if what == "folder":
        link.symlink_to(tmp_path / "outside")
    else:
        link.mkdir()
        link = link / FILE
        link.symlink_to(tmp_path / "outside" / FILE)
    ended = run("chain", "verify", a_run)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"{link} is a symbolic link" in ended.err


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_has_a_stores_name_and_is_no_file_is_broken(run: Run, a_run: Path, make: Callable[[Path], None]) -> None:
    (a_run / "aps/1" / FILE).unlink()
    make(a_run / "aps/1" / FILE)
    ended = run("chain", "verify", a_run)
    assert (ended.status, ended.err) == (1, "")
    assert "aps/1: BROKEN, rule Store: " in ended.out
    assert ended.out.count(": clean to height 3") == 2


def test_an_ap_of_a_run_without_a_store_is_named(run: Run, tmp_path: Path) -> None:
    names = [ap.name for ap in CONSORTIUM.rules.genesis.aps]
    for name in names[:-1]:
        fill(tmp_path / name, BLOCKS)
    assert run("chain", "verify", tmp_path).status == 0, "a folder of copied stores"
    (tmp_path / "slots.jsonl").write_text("{}\n")
    ended = run("chain", "verify", tmp_path)
    assert ended.status == 1
    assert f"{names[-1]}: MISSING; it is an AP of this run and has no store here" in ended.out
    found = json.loads(run("chain", "verify", tmp_path, "--json").out)
    assert (found["clean"], found["missing"]) == (False, [names[-1]])


@pytest.mark.parametrize("command", ["verify", "export", "show"])
def test_a_full_disk_behind_standard_output_is_one_line(a_run: Path, command: str) -> None:
    """And not the exit status of a broken store."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "splitnet", "chain", command, a_run],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "cannot write to standard output: No space left on device; send it elsewhere" in ended.stderr


@pytest.mark.parametrize("command", ["verify", "show", "export"])
def test_nothing_there_is_one_line(run: Run, tmp_path: Path, command: str) -> None:
    for folder, message in (
        (tmp_path, f"there is no chain.sqlite3 in {tmp_path} nor below it; name a store's folder or a run's"),
        (tmp_path / "nowhere", "cannot look into"),
    ):
        ended = run("chain", command, folder)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert message in ended.err


@pytest.mark.parametrize("network", ["abc", "", "zz" * 32, "00" * 33])
def test_a_network_that_is_none(run: Run, a_run: Path, network: str) -> None:
    ended = run("chain", "verify", a_run, "--network", network)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "is no network's id; give its 64 hexadecimal digits" in ended.err


# --- show


def test_the_chain_is_listed(run: Run, tmp_path: Path) -> None:
    """A longer branch that came later is the chain, not the blocks that it overtook."""
    side = a_branch(CONSORTIUM, BLOCKS[1], 7)
    longer = CONSORTIUM.block(8, 1, Contents(), parent=Place.of_block(hash_in(CONSORTIUM, side), side.header))
    fill(tmp_path, [*BLOCKS, side, longer])
    ended = run("chain", "show", tmp_path)
    assert (ended.status, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines()[1:5]]
    expected = [*BLOCKS[:2], side, longer]
    assert [row[:3] for row in rows] == [
        [str(block.header.height), str(block.header.slot), f"ap-{block.header.miner}"] for block in expected
    ]
    assert [row[6] for row in rows] == [hash_in(CONSORTIUM, block).hex()[:12] for block in expected]
    assert rows[0][3:6] == ["0.150000", "0.740818", "2"]  # 1,500 of 10,000 FLOPs; exp(-2 U)
    assert rows[0][7:] == ["2023-11-14", "22:13:21.000"]
    told = json.loads(run("chain", "show", tmp_path, "--json").out)
    (store,) = told["stores"]
    assert (store["network"], store["height"]) == (NETWORK, 4)
    assert [block["hash"] for block in store["blocks"]] == [hash_in(CONSORTIUM, block).hex() for block in expected]
    assert store["blocks"][0] | {"difficulty": 0} == {
        "height": 1,
        "slot": 0,
        "miner": 0,
        "miner_name": "ap-0",
        "reputation": 0.15,
        "difficulty": 0,
        "receipts": 2,
        "hash": HASHES[0],
        "time_ms": STARTED_MS + 1000,
    }


def test_of_two_branches_as_long_the_lower_hash_is_the_chain(run: Run, tmp_path: Path) -> None:
    rivals = [a_branch(CONSORTIUM, None, slot) for slot in range(4)]
    fill(tmp_path, rivals)
    (store,) = json.loads(run("chain", "show", tmp_path, "--json").out)["stores"]
    assert [block["hash"] for block in store["blocks"]] == [min(hash_in(CONSORTIUM, one).hex() for one in rivals)]
    verified = json.loads(run("chain", "verify", tmp_path, "--json").out)
    assert verified["stores"][0]["head"] == store["blocks"][0]["hash"]


@pytest.mark.parametrize("wanted", ["2", HASHES[1], HASHES[1][:12], HASHES[1][:12].upper()])
def test_one_block_is_shown(run: Run, a_run: Path, wanted: str) -> None:
    ended = run("chain", "show", a_run, "--block", wanted)
    assert (ended.status, ended.err) == (0, "")
    told = " ".join(ended.out.split())
    for part in (
        f"block 2, hash {HASHES[1]}",
        f"after {HASHES[0]}",
        "slot 1, mined by ap-1 at 2023-11-14 22:13:22.000 UTC",
        "in aps/0, aps/1, aps/10/deep",
        "device-0 gateway-0 ap-0 10 2 1500",
        "device-1 gateway-1 ap-1 10 2 1500 yes",
        "2 receipts",
    ):
        assert part in told
    (block,) = json.loads(run("chain", "show", a_run, "--block", wanted, "--json").out)["blocks"]
    assert block["hash"] == HASHES[1]
    assert block["sealed"]["header"]["height"] == 2
    assert len(block["body"]["receipts"]) == 2


@pytest.mark.parametrize("wanted", ["4", "0", "", "ffff" * 16, "no hash", "-1"])
def test_a_block_that_is_not_there(run: Run, a_run: Path, wanted: str) -> None:
    ended = run("chain", "show", a_run, f"--block={wanted}")
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"--block {wanted!r} is neither a height nor the hash of a block" in ended.err


def test_a_beginning_of_several_hashes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "LEAST_DIGITS", 0)
    fill(tmp_path, BLOCKS)
    ended = run("chain", "show", tmp_path, "--block", "")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "3 blocks of" in ended.err
    assert "give more digits of the hash" in ended.err


def test_what_is_damaged_is_not_shown(run: Run, tmp_path: Path) -> None:
    fill(tmp_path, BLOCKS)
    tampered(tmp_path)
    ended = run("chain", "show", tmp_path, "--block", "2")
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "is not signed by its miner" in ended.err
    with edited(tmp_path) as connection:
        connection.execute("UPDATE blocks SET data = (SELECT data FROM blocks WHERE number = 1) WHERE number = 3")
    for command in ("show", "export"):
        ended = run("chain", command, tmp_path)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "row 3 of its blocks is stored under another hash" in ended.err


# --- export


def exported(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_block_is_exported_with_every_field(run: Run, tmp_path: Path) -> None:
    side = a_branch(CONSORTIUM, None, 9)
    fill(tmp_path / "run" / "ap", [*BLOCKS, side])
    ended = run("chain", "export", tmp_path / "run")
    assert (ended.status, ended.err) == (0, "")
    lines = exported(ended.out)
    assert [(line["store"], line["hash"], line["in_chain"]) for line in lines] == [
        *(("ap", one, True) for one in HASHES),
        ("ap", hash_in(CONSORTIUM, side).hex(), False),
    ]
    header, first = BLOCKS[0].header, lines[0]
    assert first["sealed"]["header"] == {
        "previous": NETWORK,
        "height": 1,
        "slot": 0,
        "miner": 0,
        "plan": header.plan.hex(),
        "receipts": header.receipts.hex(),
        "audits": header.audits.hex(),
        "reputation_micro": 150_000,
        "difficulty": header.difficulty,
        "target": header.target.hex(),
        "time_ms": STARTED_MS + 1000,
    }
    planned = {"slot": 0, "cuts": [2, 2, 2, 2], "shares": [0, 0], "mining_shares": [1_000_000, 1_000_000]}
    assert first["body"]["plan"] == {"plan": planned, "signature": BLOCKS[0].body.plan.signature.hex()}
    assert first["sealed"]["nonce"] == BLOCKS[0].sealed.nonce.hex()
    signed, told = BLOCKS[0].body.receipts[1], first["body"]["receipts"][1]
    assert told["device_signature"] == signed.device_signature.hex()
    assert told["receipt"]["arrival"] == {
        "slot": 0,
        "twin": 1,
        "data_points": 10,
        "batch": signed.receipt.arrival.batch.hex(),
    }
    out = tmp_path / "chain.jsonl"
    ended = run("chain", "export", tmp_path / "run", "-o", out)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert exported(out.read_text()) == lines
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_an_export_is_whole_or_not_there(run: Run, a_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "chain.jsonl"
    out.write_text("before")
    with edited(a_run / "aps" / "10" / "deep") as connection:
        connection.execute("UPDATE blocks SET data = x'00' WHERE number = 3")
    ended = run("chain", "export", a_run, "-o", out)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert out.read_text() == "before"
    whole = (a_run / "aps" / "0" / FILE).read_bytes()
    for place in (a_run / "aps" / "0" / FILE, a_run, tmp_path / "nowhere" / "x.jsonl"):
        ended = run("chain", "export", a_run / "aps" / "0", "-o", place)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "choose another file with -o FILE" in ended.err
    assert (a_run / "aps" / "0" / FILE).read_bytes() == whole


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """As with `| head -1`."""
    many = a_chain(CONSORTIUM, 60)
    fill(tmp_path, many)
    process = subprocess.Popen(
        [sys.executable, "-m", "splitnet", "chain", "export", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert json.loads(process.stdout.readline())["hash"] == hash_in(CONSORTIUM, many[0]).hex()
        process.stdout.close()
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()


# --- new


def test_a_network_is_founded(run: Run, tmp_path: Path) -> None:
    ended = run("chain", "new", "small", tmp_path / "network", "--hashes", "5000")
    assert (ended.status, ended.err) == (0, "")
    rules = load_network(tmp_path / "network")
    assert f"network {rules.network.hex()}" in ended.out
    assert rules.genesis.mining.hashes == 5000
    assert rules.genesis.started_ms > NOW_MS
    ended = run("chain", "new", "small", tmp_path / "other", "--json")
    told = json.loads(ended.out)
    assert told["network"] == load_network(tmp_path / "other").network.hex() != rules.network.hex()
    assert told["genesis"]["mining"]["hashes"] == 8_000_000
    assert len(told["genesis"]["devices"]) == 4


def test_a_network_that_cannot_be_founded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    for arguments, message in (
        (("small", tmp_path), "is not empty; choose another folder"),
        (("smal", tmp_path / "new"), "small"),
        (("small", tmp_path / "new", "--hashes", "0"), "--hashes 0 is outside 1"),
    ):
        ended = run("chain", "new", *arguments)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert message in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_help_has_examples(run: Run) -> None:
    for command in ("new", "verify", "show", "export"):
        ended = run("chain", command, "--help")
        assert ended.status == 0
        assert f"splitnet chain {command}" in " ".join(ended.out.split())
