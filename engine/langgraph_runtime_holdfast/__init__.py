"""Holdfast's engine: for now the local stack that `make run` and the tests start."""
