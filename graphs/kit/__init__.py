"""What the agents share: models, middleware, intake, sub-agents, off-loading, keyed effects, the guard."""
