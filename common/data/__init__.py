"""Lists of cases, batches of unequal volumes, and generated masks."""
