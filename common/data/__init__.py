"""Files in and out: one reader, one writer, one finder, lists of cases, splits, provenance."""
