"""The inside view: the first process of every container, which samples it."""
