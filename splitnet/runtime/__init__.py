"""Sockets, links and processes: the gateway, the AP, and how they are launched. README.md says where to begin."""
