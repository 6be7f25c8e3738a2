"""The machines of a run as processes of this host: started together, connected, asked at the same time, ended.

Decides the order of starting and who is told of whom. What they are asked is the slot loop's matter.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, final

from splitnet.consensus.genesis import Genesis
from splitnet.machines.messages import Done, Join, Said
from splitnet.machines.service import Asker
from splitnet.runtime.address import Address
from splitnet.runtime.connection import ANSWER_DEADLINE_S
from splitnet.runtime.core_plan import CorePlan
from splitnet.runtime.launch import LaunchedProcess
from splitnet.runtime.links import Links, Machine

Answered = TypeVar("Answered", bound=Said)


@final
class Crew:
    """All machines of a run; a context manager that ends them.

    Attributes:
        devices: the process of all devices.
        gateways, aps: by number.
    """

    devices: Asker
    gateways: list[Asker]
    aps: list[Asker]

    def __init__(self, genesis: Genesis, assignment_path: Path, links: Links, cores: CorePlan) -> None:
        """Nothing runs before it is entered.

        Args:
            links: started already.
            cores: on which the machines `gateway 0`, …, `AP 0`, … run.
        """
        self._genesis, self._assignment_path, self._links, self._cores = genesis, assignment_path, links, cores
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._threads = stack.enter_context(ThreadPoolExecutor(len(self._genesis.members)))
            self._launch(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ask_all(
        self, machines: Sequence[Asker], message: Said, kind: type[Answered], deadline_s: float = ANSWER_DEADLINE_S
    ) -> list[Answered]:
        """Ask all the same at the same time; answers in the machines' order."""
        return self.ask_each(machines, [message] * len(machines), kind, deadline_s)

    def ask_each(
        self,
        machines: Sequence[Asker],
        messages: Iterable[Said],
        kind: type[Answered],
        deadline_s: float = ANSWER_DEADLINE_S,
    ) -> list[Answered]:
        """Ask each its own at the same time; all have answered or failed before this returns or raises.

        Args:
            deadline_s: for each answer.

        Raises:
            WorkerError: the first failure.
        """
        asked = [
            self._threads.submit(machine.ask, message, kind, deadline_s=deadline_s)
            for machine, message in zip(machines, messages, strict=True)
        ]
        errors = [error for one in asked if (error := one.exception()) is not None]
        if errors:
            raise errors[0]
        return [one.result() for one in asked]

    def _launch(self, stack: contextlib.ExitStack) -> None:
        """Start all processes at once, then connect each with those it works with."""
        genesis, token = self._genesis, secrets.token_hex(16)
        aps = [Machine("ap", number) for number in range(len(genesis.aps))]
        gateways = [Machine("gateway", number) for number in range(len(genesis.gateways))]
        launched = {machine: self._start(machine, token, stack) for machine in (*aps, *gateways, None)}
        said = {machine: process.wait() for machine, process in launched.items()}

        def asker(machine: Machine | None) -> Asker:
            port = said[machine]["service"]
            address = Address("127.0.0.1", port) if machine is None else self._links.address(machine, port)
            return stack.enter_context(Asker(address, token))

        self.devices = asker(None)
        self.gateways, self.aps = [asker(machine) for machine in gateways], [asker(machine) for machine in aps]
        nodes = [str(self._links.address(machine, said[machine]["node"])) for machine in aps]
        services = [str(self._links.address(machine, said[machine]["service"])) for machine in gateways]
        for number, ap in enumerate(self.aps):
            own = [service for service, of in zip(services, genesis.ap_of, strict=True) if of == number]
            ap.ask(Join(nodes[:number], own), Done)
        for number, gateway in enumerate(self.gateways):
            port = said[aps[genesis.ap_of[number]]]["service"]
            gateway.ask(Join([str(self._links.ap_address(number, port))]), Done)
        self.devices.ask(Join(services), Done)

    def _start(self, machine: Machine | None, token: str, stack: contextlib.ExitStack) -> LaunchedProcess:
        role, number = ("devices", 0) if machine is None else (machine.role, machine.number)
        host = "127.0.0.1" if machine is None else self._links.listen_host(machine)
        cores = self._cores.cores_of.get(f"{'AP' if role == 'ap' else role} {number}")
        command = ["splitnet.machines.process", role, str(number), str(self._assignment_path), host]
        command.append(",".join(map(str, sorted(cores))) if cores else "all")
        process = LaunchedProcess(
            f"{role} {number}" if machine else role,
            command,
            token,
            wrap=lambda command: command if machine is None else self._links.command(machine, command),
        )
        stack.callback(process.stop)
        return process
