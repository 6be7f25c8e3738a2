"""Reputation-based consensus: signed results, adjusted difficulty, blocks, a chain that lasts; see README.md."""
