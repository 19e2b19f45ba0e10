"""The project's own agents; which model they think with is told in each run's context."""

from graphs.formulation.graph import graph as formulation
from graphs.projects.graph import graph as projects
from graphs.trials.graph import graph as trials

__all__ = ["formulation", "projects", "trials"]
