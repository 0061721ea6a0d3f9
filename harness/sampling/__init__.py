"""The three views of memory: inside (psutil), docker (stats API) and cgroup (host files).

Samplers are processes that must stay small, so this package imports nothing by itself and its
modules import only what they use.
"""
