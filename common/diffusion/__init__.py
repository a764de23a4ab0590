"""The papers' mathematics: noise schedules, step rules, conversions, the variational bound."""
