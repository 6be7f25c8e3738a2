"""The process of one machine of a run, started by its coordinator.

    python -m splitnet.machines.process ROLE NUMBER ASSIGNMENT HOST CORES

It listens on HOST (loopback, or in a network namespace of the run), keeps to CORES (`all`, or 0,1), prints a line of
JSON once it listens, and ends when its standard input closes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.auditing import Reexecutor
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import read_key
from splitnet.consensus.node import Node
from splitnet.consensus.store import Store
from splitnet.errors import SettingsError, SplitnetError, WorkerError
from splitnet.founding import key_file, load_network
from splitnet.inference import fused_attention_off
from splitnet.machines.ap import Ap
from splitnet.machines.assignment import Assignment, read_assignment
from splitnet.machines.devices import Devices, Sensor
from splitnet.machines.gateway import LANE, Gateway
from splitnet.machines.keepers import Keepers
from splitnet.machines.messages import Done, Greet, Join, Message
from splitnet.machines.service import Answer, Asker, Handler, Service, run_token
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.resident import ResidentModel
from splitnet.runtime.actuators import make_actuator
from splitnet.runtime.address import Address
from splitnet.runtime.connection import Received
from splitnet.runtime.speed import Actuator
from splitnet.runtime.worker import end_with_stdin, interrupt_by_signal


class _Joining:
    """A handler that is made once the machine knows whom to connect with."""

    def __init__(self, name: str, join: Callable[[list[Address]], Handler]) -> None:
        self._name, self._join = name, join
        self._handler: Handler | None = None

    def __call__(self, greet: Greet, received: Received[Message]) -> Answer:
        if isinstance(received.message, Join) and self._handler is None:
            self._handler = self._join([Address.parse(text) for text in received.message.addresses])
            return Answer(Done())
        if self._handler is None:
            raise WorkerError(f"{self._name} has not joined the others yet")
        return self._handler(greet, received)


def main() -> None:
    role, number, path, host, cores = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
    if cores != "all":
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    signal.signal(signal.SIGTERM, interrupt_by_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which closes our input
    kept = contextlib.ExitStack()  # a quota outlives its process
    threading.Thread(target=end_with_stdin, args=(kept,), daemon=True).start()
    torch.set_num_threads(1)
    fused_attention_off()
    try:
        with kept, contextlib.ExitStack() as stack:
            print(json.dumps(_start(role, number, read_assignment(path), host, stack, kept)), flush=True)
            gc.collect()
            gc.freeze()  # models stay; the collector need not walk them in the middle of an inference
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    except SplitnetError as error:
        print(f"splitnet: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        sys.stdout.flush()
    os._exit(0)


def _start(
    role: str,
    number: int,
    assignment: Assignment,
    host: str,
    stack: contextlib.ExitStack,
    kept: contextlib.ExitStack,
) -> dict[str, int]:
    folder = Path(assignment.folder)
    rules, token = load_network(folder), run_token()
    more: dict[str, int] = {}
    if role == "devices":
        handler = _devices(assignment, rules, token, stack)
    elif role == "gateway":
        handler = _gateway(number, assignment, rules, token, stack, _actuator(assignment, kept))
    elif role == "ap":
        handler, more["node"] = _ap(number, assignment, rules, token, host, stack, kept)
    else:
        raise SettingsError(f"role {role!r} is unknown: devices, gateway or ap")
    service = Service(f"{role} {number}", host, token, handler, begin=lambda: torch.set_num_threads(1))
    stack.callback(service.close)
    return {"service": service.port, **more}


def _key(assignment: Assignment, name: str) -> Ed25519PrivateKey:
    return read_key(key_file(Path(assignment.folder), name))


def _models(assignment: Assignment) -> list[ResidentModel]:
    """Of each DT; each model once in memory."""
    held: dict[ModelRef, ResidentModel] = {}
    for ref in assignment.models:
        if ref not in held:
            held[ref] = ResidentModel(build_model(ref), torch.device("cpu"))
    return [held[ref] for ref in assignment.models]


def _devices(assignment: Assignment, rules: Rules, token: str, stack: contextlib.ExitStack) -> Handler:
    keys = [_key(assignment, member.name) for member in rules.genesis.devices]
    images = None if assignment.images is None else Path(assignment.images)
    sensors = [Sensor(twin, shape, assignment.seed, images) for twin, shape in enumerate(assignment.input_shapes)]

    def join(addresses: list[Address]) -> Handler:
        gateways = {place: stack.enter_context(Asker(address, token)) for place, address in enumerate(addresses)}
        return Devices(rules, keys, sensors, gateways).handle

    return _Joining("devices", join)


def _actuator(assignment: Assignment, kept: contextlib.ExitStack) -> Actuator:
    actuator = make_actuator(assignment.actuator)
    kept.callback(actuator.close)
    return actuator


def _gateway(
    number: int,
    assignment: Assignment,
    rules: Rules,
    token: str,
    stack: contextlib.ExitStack,
    actuator: Actuator,
) -> Handler:
    key, models = _key(assignment, rules.genesis.gateways[number].name), _models(assignment)
    actuator.set(LANE, assignment.gateway_speed[number])

    def join(addresses: list[Address]) -> Handler:
        ap = stack.enter_context(Asker(addresses[0], token, gateway=number))
        return Gateway(
            rules, number, key, models, assignment.cuts, assignment.codecs, actuator, ap, assignment.paced_links
        ).handle

    return _Joining(f"gateway {number}", join)


def _ap(
    number: int,
    assignment: Assignment,
    rules: Rules,
    token: str,
    host: str,
    stack: contextlib.ExitStack,
    kept: contextlib.ExitStack,
) -> tuple[Handler, int]:
    """Its handler, and the port of its node."""
    key, models = _key(assignment, rules.genesis.aps[number].name), _models(assignment)
    folder = Path(assignment.folder) / rules.genesis.aps[number].name
    store = Store.open(folder, rules.network) if folder.exists() else Store.create(folder, rules)
    stack.enter_context(store)
    reexecutor = Reexecutor(set(models))
    keepers = Keepers(token)
    stack.callback(keepers.close)
    node = stack.enter_context(Node(store, key, Address(host, 0), (), reexecutor.run, find_value=keepers.find))
    actuator = _actuator(assignment, kept)  # after the mining process began, which keeps its own rate
    speed, hash_rate = assignment.ap_speed[number], assignment.ap_hash_rate[number]
    ap = Ap(rules, number, key, models, assignment.cuts, actuator, speed, hash_rate, node, keepers, reexecutor)
    return ap.handle, node.address.port


if __name__ == "__main__":
    main()
