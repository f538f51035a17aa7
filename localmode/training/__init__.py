"""Training jobs: statuses, the state machine, the scheduler, Spot capacity and billing."""
