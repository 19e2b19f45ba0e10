"""The project's own agents; which model they think with is told in each run's context."""

from graphs.analytics.graph import graph as analytics
from graphs.formulation.graph import graph as formulation
from graphs.printing.graph import graph as printing
from graphs.projects.graph import graph as projects
from graphs.support.graph import graph as support
from graphs.trials.graph import graph as trials

__all__ = ["analytics", "formulation", "printing", "projects", "support", "trials"]
