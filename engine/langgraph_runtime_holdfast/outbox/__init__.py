"""The outbox: callbacks of runs that have ended, from the transaction that ends them to the receiver."""
