"""`python -m splitnet` is the `splitnet` command."""

from splitnet.cli import main

main()
