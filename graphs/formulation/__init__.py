"""Mixes ingredients into the cheapest or best blend that meets its targets, by linear programming."""
