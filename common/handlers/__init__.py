"""Ignite handlers for trainers and evaluators: checkpoints, seeding, progress, guards."""
