"""The projects agent: critical path, Monte-Carlo finish dates, the risks that matter, and a Gantt chart."""
