"""Looks at a part for 3D printing: is the mesh sound, how to lay it, what it costs."""
