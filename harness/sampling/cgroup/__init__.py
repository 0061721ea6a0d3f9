"""The cgroup view: a process on the host that reads the containers' memory files."""
