"""Side-by-side measurements of the engines, on this machine, in one run."""
