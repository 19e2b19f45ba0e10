"""The support agent: answers from written policies, and asks a human before all but trivial replies."""
