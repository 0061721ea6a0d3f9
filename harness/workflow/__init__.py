"""The workload: what is run, and what it must leave behind."""
