"""The version before: what upgrades are tried from, and what it has released stays as it is."""

BASE = "1279c0e6c6a466942f63b4e405c304f81391ff18"
"""A commit; moved to the newest release when one is made."""
