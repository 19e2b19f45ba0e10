"""Backups: `holdfast backup` and `restore`, and what makes a database that came back safe to serve on."""
