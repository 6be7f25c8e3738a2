"""A real AP node in a process of its own, driven by lines of JSON on its standard input.

    python ap_node.py FOLDER NUMBER PEER,PEER,… [PORT] [APS]

It says where it listens, then answers each line with one line. `{"mine": t}` submits the receipts of its own devices
for slot t and mines the block. It ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from splitnet.consensus.node import Node
from splitnet.consensus.store import Store
from splitnet.runtime.address import Address
from tests.consortium import Consortium, a_key, no_models, real_time_rules


def answer(node: Node, consortium: Consortium, asked: dict[str, Any]) -> dict[str, Any]:
    match asked:
        case {"mine": slot, "rate": rate}:
            genesis = node.rules.genesis
            for twin, gateway in enumerate(genesis.gateway_of):
                if genesis.ap_of[gateway] == node.number:
                    node.submit(consortium.receipt(slot, twin), b"result")
            node.mine(slot, consortium.plan(slot), rate)
            return {}
        case {"wait": slot, "timeout_s": timeout_s}:
            head = node.wait_slot(slot, timeout_s)
            return {"slot": None if head is None else head.place.slot}
        case {"status": _}:
            status = node.status()
            return {
                "height": status.height,
                "head": status.head.hex(),
                "slot": status.slot,
                "waiting": sorted(node.waiting()),
                "peers": list(status.peers),
                "dropped": [list(one) for one in status.dropped],
            }
    raise ValueError(f"unknown request {asked}")


def main() -> None:
    folder, number, aps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[5])
    peers = [Address.parse(text) for text in sys.argv[3].split(",") if text]
    rules = real_time_rules(aps)
    store = Store.open(folder, rules.network) if folder.exists() else Store.create(folder, rules)
    with store, Node(store, a_key("ap", number), Address("127.0.0.1", int(sys.argv[4])), peers, no_models) as node:
        print(json.dumps({"listening": str(node.address)}), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(node, Consortium(rules), json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
