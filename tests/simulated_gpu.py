"""
A GPU that is simulated on the CPU, for machines without one: ``make simulated-gpu`` runs the bundles' tests on it.

Tensors of "cuda" are computed on the CPU and kept apart as on a machine with a GPU: an operation on tensors of both
devices, NumPy's view of one on the GPU and the like are errors here too. What it cannot show: kernels, memory, speed
and rounding of a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
BASE, ATEN = torch._C.TensorBase, torch.ops.aten
# What PyTorch lets cross from one device to the other: copies, and indices on the CPU of what is on the GPU.
COPIES = (ATEN._to_copy, ATEN.copy_, ATEN.copy, ATEN._copy_from)
INDEXED = (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_, ATEN._unsafe_index)
DOUBLE = (torch.float64, torch.complex128)
# Memory on the simulated GPU, by address; the reference keeps an address from being used again.
_MEMORY: dict[int, StorageWeakRef] = {}
_LACKS: set[torch.dtype] = set()
_MOVING: list[Tensor] = []


def _real_device(tensor: Tensor) -> torch.device:
    """The device that PyTorch sees; ``MetaTensor`` would ask the property that is put in its place."""
    with torch._C.DisableTorchFunctionSubclass():
        return BASE.device.__get__(tensor)


def _is_ours(tensor: Tensor) -> bool:
    """Whether it holds numbers: neither PyTorch's fake tensors nor those of "meta" do."""
    return not isinstance(tensor, FakeTensor) and _real_device(tensor).type == "cpu" and not tensor.is_sparse


def _address(tensor: Tensor) -> int:
    return BASE.untyped_storage(tensor)._cdata


def _place(tensor: Tensor) -> torch.device:
    if isinstance(tensor, FakeTensor):
        return tensor.fake_device
    if not _is_ours(tensor):
        return _real_device(tensor)
    return GPU if _address(tensor) in _MEMORY else CPU


def _put(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        _MEMORY.pop(_address(tensor), None)
        return tensor
    if tensor.dtype in _LACKS:
        raise TypeError(f"Cannot convert a tensor to {tensor.dtype}, which the device does not have.")
    if len(_MEMORY) > 20_000:
        for address in [address for address, kept in _MEMORY.items() if kept.expired()]:
            del _MEMORY[address]
    _MEMORY[_address(tensor)] = StorageWeakRef(BASE.untyped_storage(tensor))
    return tensor


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, Tensor)]


class _Devices(TorchDispatchMode):
    """Refuses operations on tensors of two devices, and notes where the results of the others are."""

    def __init__(self) -> None:
        super().__init__()
        self.last = CPU

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = _tensors((args, kwargs))
        named = torch.device(kwargs.get("device") or "cpu")
        if named.type not in ("cpu", "cuda") or not all(map(_is_ours, given)):
            return func(*args, **kwargs)
        _refuse_two_devices(func, args, given)
        place = self._place_of_result(func, given, kwargs)
        self.last = place if given else self.last
        kwargs |= {"device": CPU} if kwargs.get("device") is not None else {}
        kwargs |= {"pin_memory": False} if kwargs.get("pin_memory") else {}
        result, before = func(*args, **kwargs), set(map(_address, given))
        for one in _tensors(result):
            if _address(one) not in before:
                _put(one, place)
        return result

    def _place_of_result(self, func: Any, given: list[Tensor], kwargs: dict[str, Any]) -> torch.device:
        named = kwargs.get("device")
        # PyTorch's own code names the device that it sees, which is always the CPU.
        own = named is not None and torch.device(named).type == "cpu"
        if own and not given and torch._C._current_graph_task_id() != -1:
            return self.last
        if named is None or (own and any(word in str(func) for word in ("new_", "_like"))):
            return next((GPU for one in given if _place(one) == GPU), CPU)
        return torch.device(named)


def _refuse_two_devices(func: Any, args: Any, given: list[Tensor]) -> None:
    name = func.overloadpacket
    if name in INDEXED and _place(given[0]) == GPU:
        given = [given[0], *_tensors(args[2:])]
    places = {_place(one) for one in given if one.dim() or _place(one) == GPU}  # a number on the CPU goes with all
    if len(places) > 1 and name not in COPIES:
        what = ", ".join(f"{tuple(one.shape)} on {_place(one)}" for one in given)
        raise RuntimeError(f"Expected all tensors to be on the same device: {func}({what})")


def _named_device(args: Any, kwargs: Any) -> torch.device | None:
    """The device that the arguments of ``Tensor.to`` name."""
    for one in (kwargs.get("device"), kwargs.get("other"), *args[:1]):
        if isinstance(one, Tensor):
            return _place(one)
        if isinstance(one, (str, torch.device)):
            return GPU if str(one).startswith("cuda") else torch.device(one)
        if isinstance(one, int) and not isinstance(one, bool):
            return GPU
    return None


def _own_to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's ``to``, which calls the one below once more for subclasses such as ``MetaTensor``."""
    _MOVING.append(self)
    try:
        return BASE.to(self, *args, **kwargs)
    finally:
        _MOVING.pop()


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to``, which copies from device to device; for PyTorch itself, all are the CPU."""
    if _MOVING:
        return BASE.to(self, *args, **kwargs)
    device = _named_device(args, kwargs)
    if device == GPU:
        first = [one if isinstance(one, (Tensor, torch.dtype)) else CPU for one in args[:1]]
        args, kwargs = (*first, *args[1:]), kwargs | ({"device": CPU} if kwargs.get("device") is not None else {})
    result = _own_to(self, *args, **kwargs)
    if device is None or device.type == "meta" or not _is_ours(self):
        return result
    if _address(result) == _address(self) and device != _place(self):
        result = _own_to(self, *args, **{**kwargs, "copy": True})
    return result if _address(result) == _address(self) else _put(result, device)


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def of_the_cpu(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if _place(self) == GPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return method(self, *args, **kwargs)

    return of_the_cpu


def _deepcopy(self: Tensor, memo: Any, copied: Callable[..., Tensor] = Tensor.__deepcopy__) -> Tensor:
    return _put(copied(self, memo), _place(self)) if _is_ours(self) else copied(self, memo)


def _moving(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(make)
    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        result = make(data, *args, **kwargs)
        return result if device is None else result.to(device)

    return made


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def loaded(f: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if not str(map_location).startswith("cuda"):
            return load(f, map_location=map_location, **kwargs)
        return tree_map(lambda one: one.to(GPU) if isinstance(one, Tensor) else one, load(f, CPU, **kwargs))

    return loaded


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _patches() -> Iterable[tuple[Any, str, Any]]:
    tensor: dict[str, Any] = {
        "device": property(_place),
        "is_cuda": property(lambda self: _place(self).type == "cuda"),
        "is_cpu": property(lambda self: _place(self).type == "cpu"),
        "to": _to,
        "cpu": lambda self, **kwargs: _to(self, CPU, **kwargs),
        "cuda": lambda self, device=None, **kwargs: _to(self, GPU, **kwargs),
        "numpy": _refusing(BASE.numpy),
        "__array__": _refusing(Tensor.__array__),
        "__deepcopy__": _deepcopy,
        "pin_memory": lambda self, device=None: self,
        "is_pinned": lambda self, device=None: False,
    }
    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "_lazy_init": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: False,
        "mem_get_info": lambda device=None: (psutil.virtual_memory().available, 2**37),
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=2**37, multi_processor_count=1),
        "get_device_name": lambda device=None: "simulated",
        "get_device_capability": lambda device=None: (9, 0),
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "set_device": lambda device: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "max_memory_allocated": lambda device=None: 0,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
        "get_rng_state_all": lambda: [],
        "set_rng_state_all": lambda states: None,
    }
    functions = {"tensor": _moving(torch.tensor), "as_tensor": _moving(torch.as_tensor), "load": _loading(torch.load)}
    autocast = {"autocast": _Autocast}
    for owner, names in ((Tensor, tensor), (torch.cuda, cuda), (torch, functions | autocast), (torch.amp, autocast)):
        yield from ((owner, name, value) for name, value in names.items())


@contextlib.contextmanager
def simulated_gpu(lacks: Iterable[torch.dtype] = ()) -> Iterator[None]:
    """Within it there is a GPU, "cuda"; one that ``lacks`` types, as Apple's lacks ``DOUBLE``."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in list(_patches()):
            patch.setattr(owner, name, value, raising=False)
        _LACKS.update(lacks)
        try:
            with _Devices():
                yield
        finally:
            _MEMORY.clear()
            _LACKS.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a plugin: tests of TorchScript, of processes of their own and of the memory of a CPU are left out."""
    for item in items:
        if any(word in item.name for word in ("torchscript", "two_processes", "too_large_for_the_memory")):
            item.add_marker(pytest.mark.skip(reason="not simulated"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Each test with its fixtures, where this file is a plugin."""
    with simulated_gpu(DOUBLE if os.environ.get("SIMULATED_GPU") == "without float64" else ()):
        yield
