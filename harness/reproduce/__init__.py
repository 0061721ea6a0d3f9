"""Bundles: a run directory and its images in one file, checked, inspected and run again."""
