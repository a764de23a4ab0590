"""Tables of methods, comparison of folders, audit for copies, observer: `python -m common.evaluation`."""
