"""Compose projects: the only room that talks to the Docker CLI and SDK."""
