"""Workload plug-ins: a module of the workload's name registers its options."""
