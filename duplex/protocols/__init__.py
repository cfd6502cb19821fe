"""Wire protocols, sans-I/O: messages in, client events out; server events in, messages out. Nothing else."""
