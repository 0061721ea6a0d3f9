"""The agent: the one process that watches an engine's machine, and the conversation with it."""
