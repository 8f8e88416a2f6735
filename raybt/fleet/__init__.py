"""Everything that knows Ray: the driver, the replicas, the aggregation tasks, job submission."""
