"""Topologies of processes instead of containers: the steps of a Slurm job."""
