"""Rules without I/O: no await, no clock, no randomness, no environment."""
