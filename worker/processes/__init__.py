"""The processes of a worker: the trees of its devices, and the supervisors that keep them alive."""
