"""What the agents share: model choice, the team builder, policies, off-loading, keyed effects, the guard."""
