"""The processes of a testbed run: devices, gateways and APs, each an emulated machine; see README.md."""
