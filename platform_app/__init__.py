"""What is plugged into the server: authentication, and later custom routes."""
