"""The project's own agents; which model they think with is told in each run's context."""

from graphs.projects.graph import graph as projects

__all__ = ["projects"]
