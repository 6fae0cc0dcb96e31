"""What a trial runs: the protocol, and one module for each kind of workload, imported when first asked for."""
