"""`chain`: found a network, verify, show and export what its nodes have stored."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from splitnet.commands.options import Json, print_json
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

EXPORT_WAY_OUT = "choose another file with -o FILE"
FOLDER_HELP = "A store's folder, or a run's: then every chain.sqlite3 below it."

app = typer.Typer()
group = typer.Typer(
    help="The chain of receipts: found a network, verify what its nodes stored, show it, export it.",
    epilog="Examples: splitnet chain verify runs/2026-01-31T12-00-00Z-run | splitnet chain show aps/0 --block 12",
    rich_markup_mode=None,
)
app.add_typer(group, name="chain")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help=FOLDER_HELP)]


@group.command(
    epilog="Examples: splitnet chain new small network | splitnet chain new my.toml network --hashes 100000"
)
def new(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A shipped scenario's name, or a .toml file.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")],
    hashes: Annotated[
        int | None,
        typer.Option(
            metavar="H0", help="Expected hashes of a block at gamma = 1; by default the scenario's H / c_h."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Found a network: keys for all members of a scenario, its genesis block and FLOPs registry."""
    from splitnet.chains import record
    from splitnet.founding import GENESIS, KEYS, found_network
    from splitnet.scenario import load_scenario

    loaded = load_scenario(scenario)
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"founding a network of {loaded.name}") as step:
        rules = found_network(loaded, folder, time.time_ns() // 10**6, hashes=hashes, step=step)
    if as_json:
        print_json({"network": rules.network.hex(), "folder": str(folder), "genesis": record(rules.genesis)})
        return
    genesis, mining = rules.genesis, rules.genesis.mining
    terminal.print(f"network {rules.network.hex()}")
    terminal.print(
        f"{len(genesis.devices)} devices, {len(genesis.gateways)} gateways, {len(genesis.aps)} APs; H_0 = "
        f"{mining.hashes} hashes, alpha {mining.alpha_micro / 1e6:g}, beta {mining.beta_micro / 1e6:g}, g "
        f"{mining.reputation}, U at most {mining.most_micro / 1e6:g}; {len(rules.registry.models)} models"
    )
    terminal.print(f"keys: {folder / KEYS}, each for its owner alone; genesis block: {folder / GENESIS}")


@group.command(
    epilog="Examples: splitnet chain verify runs/2026-01-31T12-00-00Z-run | splitnet chain verify aps/0 --network ID"
)
def verify(
    folder: Folder,
    network: Annotated[
        str | None, typer.Option(metavar="ID", help="The network's id (64 digits), of which the stores must be.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check everything from the genesis block on, every stored byte.

    Exit status 1 where a store breaks a rule, an AP of a run has none, or the stores are of several networks.
    """
    from splitnet.chains import agreement, label, missing_stores, stores_below, verify_one
    from splitnet.report.chain import verdict, verified_table
    from splitnet.running.folder import has_begun

    pinned = None if network is None else _network(network)
    stores = stores_below(folder)
    terminal = Terminal(quiet=as_json)
    outcomes = []
    for place in stores:
        name = label(place, folder)
        with terminal.progress(f"verifying {name}") as step:
            outcomes.append(verify_one(place, name, time.time_ns() // 10**6, pinned, step))
        if not as_json:
            print(verdict(outcomes[-1]))  # one line, however long
    missing = missing_stores(folder, stores) if has_begun(folder) else []
    for name in () if as_json else missing:
        print(f"{name}: MISSING; it is an AP of this run and has no store here")
    found = [outcome.verified for outcome in outcomes if outcome.verified is not None]
    agreed = agreement(found) if found else None
    clean = len(found) == len(outcomes) and not missing and (agreed is None or agreed.networks == 1)
    if as_json:
        print_json(
            {
                "clean": clean,
                "networks": sorted({one.network.hex() for one in found}),
                "same_up_to_height": agreed.height if agreed else None,
                "chains_part": agreed.parted if agreed else None,
                "missing": missing,
                "stores": [outcome.to_dict() for outcome in outcomes],
            }
        )
    elif table := verified_table(outcomes, agreed):
        terminal.print(table)
    if not clean:
        raise typer.Exit(1)


@group.command(epilog="Examples: splitnet chain show aps/0 | splitnet chain show aps/0 --block 12 --json")
def show(
    folder: Folder,
    block: Annotated[
        str | None,
        typer.Option(metavar="HASH|HEIGHT", help="One block with its receipts; the beginning of a hash will do."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the chain's blocks, newest last, or show one."""
    from splitnet.chains import label, listed, stores_below
    from splitnet.consensus.store import Store
    from splitnet.report.chain import chain_table, listed_dict

    stores = stores_below(folder)
    if block is not None:
        _show_block(stores, folder, block, as_json)
        return
    terminal, told = Terminal(quiet=as_json), []
    for place in stores:
        with Store.read(place) as store:
            name, chain = label(place, folder), listed(store)
            told.append(listed_dict(name, store.rules, chain))
            terminal.print(chain_table(name, store.rules, chain))
    if as_json:
        print_json({"stores": told})


def _show_block(stores: list[Path], root: Path, wanted: str, as_json: bool) -> None:
    """Each different block that is meant, with the stores that have it."""
    from splitnet.chains import block_record, find_block, label
    from splitnet.consensus.block import Block
    from splitnet.consensus.errors import StoreError
    from splitnet.consensus.genesis import Rules
    from splitnet.consensus.store import Store
    from splitnet.consensus.validation import validate_body, validate_sealed
    from splitnet.report.chain import block_lines, receipts_table

    found: list[tuple[Rules, Block, list[str]]] = []
    for place in stores:
        with Store.read(place) as store:
            block = find_block(store, wanted)
            if block is None:
                continue
            same = next((names for _, other, names in found if other == block), None)
            if same is None:
                validate_sealed(store.rules, block.sealed)
                validate_body(store.rules, block.header, block.body)
                found.append((store.rules, block, same := []))
            same.append(label(place, root))
    if not found:
        raise StoreError(
            f"--block {wanted!r} is neither a height nor the hash of a block in {root}; see `chain show`"
        )
    if as_json:
        print_json({"blocks": [{"stores": names, **block_record(rules, block)} for rules, block, names in found]})
        return
    terminal = Terminal()
    for rules, block, names in found:
        for line in block_lines(rules, block, names):
            terminal.print(line)
        terminal.print(receipts_table(rules, block))


@group.command(epilog="Examples: splitnet chain export aps/0 -o chain.jsonl | splitnet chain export aps/0 | head -1")
def export(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Standard output by default.")
    ] = None,
) -> None:
    """Write every stored block, of all branches, as a line of JSON with all its fields, bytes in hexadecimal."""
    from splitnet.chains import export_records, label, stores_below
    from splitnet.consensus.database import FILE
    from splitnet.consensus.store import Store

    stores = stores_below(folder)
    if output is not None and output.name == FILE:
        raise SettingsError(f"-o {output} would take the place of a store; {EXPORT_WAY_OUT}")
    with _lines_to(output) as write:
        for place in stores:
            with Store.read(place) as store:
                for one in export_records(store, label(place, folder)):
                    write(one)


@contextlib.contextmanager
def _lines_to(output: Path | None) -> Iterator[Any]:
    """A function that writes a line; a file is there when all lines are, or not at all."""
    from splitnet.files import replacing

    def writer(file: IO[str]) -> Any:
        return lambda one: file.write(json.dumps(one, separators=(",", ":")) + "\n")

    if output is None:
        yield writer(sys.stdout)
        return
    with replacing(output, EXPORT_WAY_OUT) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield writer(file)


def _network(text: str) -> bytes:
    try:
        network = bytes.fromhex(text)
    except ValueError:
        network = b""
    if len(network) != 32:
        raise SettingsError(f"--network {text[:80]!r} is no network's id; give its 64 hexadecimal digits")
    return network
