"""What every room uses: atomic writes and hashes of files, and packages that import their modules when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def exported(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Any, Any, list[str]]:
    """
    ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its modules when their names are asked for.

    Args:
        package: its ``__name__``.
        names: public names by the module that defines them.
    """
    module_of = {name: module for module, found in names.items() for name in found}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return get, lambda: sorted(module_of), sorted(module_of)
