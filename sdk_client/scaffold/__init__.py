"""Writes projects: a new one with its first agent, and further agents into one that is there.

`template/` holds the files; `%%{name}` in them is filled in, `.tmpl` and `dot-` in their names go.
"""
