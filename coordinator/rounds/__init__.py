"""One round at the coordinator, from the plan to the aggregate, independent of Flower."""
