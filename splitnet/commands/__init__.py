"""The subcommands of `splitnet`, by what they are for."""
