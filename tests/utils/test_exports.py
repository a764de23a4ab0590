"""What the packages export: every name exists, and importing a package imports none of its modules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import common

ROOMS = [f"common.{module.name}" for module in pkgutil.iter_modules(common.__path__) if module.ispkg]
_CHEAP = "import sys, {rooms}; assert {{m for m in sys.modules if m.startswith('common.')}} == {{{names}}}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_exported_name_is_there(room):
    package = importlib.import_module(room)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    for name in getattr(package, "__all__", ()):
        assert name in dir(package)
        assert name not in modules, f"{room}.{name} is a module too"
        assert getattr(getattr(package, name), "__module__", f"{room}.").startswith(f"{room}.")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "common.utils"])
def test_classes_of_configs_are_exported(room):
    package = importlib.import_module(room)
    assert any(inspect.isclass(getattr(package, name)) for name in package.__all__)


def test_a_package_is_cheap_to_import():
    names = ", ".join(map(repr, ROOMS))
    subprocess.run([sys.executable, "-c", _CHEAP.format(rooms=", ".join(ROOMS), names=names)], check=True)


def test_names_are_imported_as_from_monai():
    from common.inferers import DiffusionSampler
    from common.inferers.sampler import DiffusionSampler as same

    assert DiffusionSampler is same
