"""One round at the coordinator, from the plan to the aggregate; it knows no Flower."""
