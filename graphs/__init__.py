"""What runs: one folder an agent, and `kit/`, what they share."""
