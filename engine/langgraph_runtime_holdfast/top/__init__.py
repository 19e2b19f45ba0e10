"""`holdfast top`: queue, workers, pools and callbacks, live in the terminal."""
