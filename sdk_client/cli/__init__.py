"""The `holdfast` command: each part of the client, tried by hand."""
