"""What the agents share: models, middleware, intake, sub-agents, off-loading, keyed effects, the guard.

The client's wheel carries it as `holdfast_kit`, for projects of one's own: so it imports its own relatively.
"""
