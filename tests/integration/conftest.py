"""The shim is for the environments of servers; imported here, it would change that of the tests."""

collect_ignore = ["torchvision_shim"]
