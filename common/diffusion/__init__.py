"""Noise schedules, step rules, the sampler, and one training iteration."""
