"""What is left on disk: the run directory, its CSV schemas, the manifest."""
