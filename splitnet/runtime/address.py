"""HOST:PORT, parsed and judged."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from splitnet.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker listens. IPv6 hosts are written in brackets."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Address:
        """`127.0.0.1:7000`, `board:7000`, `[::1]:7000`.

        Raises:
            SettingsError: no port, or one out of 0..65535, or a host that cannot be a name.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
            raise SettingsError(f"address {text!r} is not HOST:PORT with a port of 0..65535, as in 127.0.0.1:7000")
        try:
            host.encode("idna")  # as the resolver will, which raises no OSError
        except UnicodeError:
            raise SettingsError(f"address {text!r}: {host!r} cannot be a host's name") from None
        return Address(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether nothing from outside this host can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
