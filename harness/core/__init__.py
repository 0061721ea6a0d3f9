"""What every room may use: errors and nothing else."""
