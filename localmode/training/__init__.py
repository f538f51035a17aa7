"""Training jobs: their state machine, their schedule, the Spot market and the bill."""
