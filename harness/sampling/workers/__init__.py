"""The inside view of workers that the harness did not start: one file per executor.

An executor knows nothing of sampling; whoever can bring samplers to its workers has a file of the
executor's name here. Executors without one run without this view.
"""

from harness.sampling.workers._protocol import WorkerSampling, worker_samplings

__all__ = ["WorkerSampling", "worker_samplings"]
