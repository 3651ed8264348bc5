"""A GPU that is not there: tensors that say `cuda:0`, hold their values on the CPU, and refuse what CUDA refuses.

Two devices in one operation raise, and so does a generator of another device. Launches of kernels, waits for the device
and copies to it are counted. What it cannot see: which types a kernel takes, the order of streams, rounding, memory.
"""

import collections
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Views, and what else starts no kernel.
SILENT = {"_unsafe_view", "_reshape_alias", "is_same_size", "_local_scalar_dense", "is_pinned", "resolve_conj", "set_"}
SILENT |= {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "resolve_neg", "is_nonzero"}
# The size of the result, or the result itself, is wanted on the CPU.
WAITING = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_consecutive", "unique_dim"}


class Counts:
    """What happened on the device.

    Attributes:
        launches: of kernels, by operation.
        waits: for the device, by the line of the package.
        copies: from the CPU, which wait for the device too unless they are told not to, by line.
    """

    def __init__(self) -> None:
        self.launches, self.waits, self.copies = (collections.Counter[str]() for _ in range(3))

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.launches, self.waits, self.copies):
            counter.clear()


COUNTS = Counts()


class Shadow(Tensor):
    """Says that it lies on `device`, and holds `values` on the CPU."""

    device_name = torch.device("cuda:0")
    without_float64 = False
    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "Shadow":
        shadow: Shadow = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=Shadow.device_name,
        )
        shadow.values = values
        return shadow

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Shadow({self.values!r})"

    def tolist(self) -> Any:
        COUNTS.waits[f"{_line()} tolist"] += 1
        return self.values.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Generators(TorchFunctionMode):
    """Looks at generators where they still are the objects that the caller made."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None:
            tensors = [x for x in args if isinstance(x, Tensor)]
            wanted = torch.device(kwargs.get("device") or (tensors[0].device if tensors else "cpu")).type
            if getattr(generator, "pretended", "cpu") != wanted:
                raise RuntimeError(f"generator of another device than {wanted} at {_line()}")
        return func(*args, **kwargs)


class _Generator(torch.Generator):
    """A generator of the CPU that says where it would be."""

    pretended: str

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        generator = super().__new__(cls, "cpu")
        generator.pretended = torch.device(device).type
        return generator


def _line() -> str:
    """The line of the package that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        before, found, name = frame.f_code.co_filename.rpartition("/wavediff/")
        if found and before:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside"


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of one operation, on the device where one of its tensors or its argument `device` is there."""
    if _is_composed(func):
        with _Mode():
            return func.decompose(*args, **kwargs)
    name, schema = func._schema.name.removeprefix("aten::"), func._schema
    tensors: list[Tensor] = []
    _mapped(tensors.append, (*args, *kwargs.values()))
    there, moved = any(isinstance(x, Shadow) for x in tensors), False
    if kwargs.get("device") is not None:
        wanted = torch.device(kwargs["device"])
        kwargs = kwargs | {"device": torch.device("cpu")}
        moved = name == "_to_copy" and there != (wanted.type != "cpu")
        there = wanted.type != "cpu"
    elif name == "copy_" and there and _is_same(*args[:2]):
        return args[0]  # what `x[1:] += 1` ends with; nothing is launched
    elif name == "copy_":
        moved = isinstance(args[0], Shadow) != isinstance(args[1], Shadow)
    else:
        _check_devices(name, args, tensors)
    if moved and not (kwargs.get("non_blocking") or (name == "copy_" and True in args[2:])):
        _moved(from_cpu=not isinstance(args[0 if name == "_to_copy" else 1], Shadow))
    masks = name in ("index", "index_put_", "_index_put_impl_") and any(x.dtype == torch.bool for x in tensors[1:])
    if there and (name in WAITING or masks):
        COUNTS.waits[f"{_line()} {name}"] += 1
    aliases = [value.alias_info for value in schema.returns]
    view = any(alias is not None and not alias.is_write for alias in aliases)
    if there and not (view or moved or name in SILENT):
        COUNTS.launches[name] += 1
    plain = {key: _mapped(host, value) for key, value in kwargs.items()}
    result = func(*_mapped(host, tuple(args)), **plain)
    if there and Shadow.without_float64:
        _mapped(_refuse_float64, result)
    if torch.Tag.inplace_view in func.tags and there:
        from torch.utils._mode_utils import no_dispatch

        with no_dispatch():
            func(*args, **kwargs)  # the sizes that the shadow itself tells
    if not there:
        return result
    given = {arg.name: value for arg, value in zip(schema.arguments, args, strict=False)} | kwargs
    written = {
        id(given[arg.name].values): given[arg.name]
        for arg in schema.arguments
        if arg.alias_info is not None and arg.alias_info.is_write and isinstance(given.get(arg.name), Shadow)
    }
    return _mapped(lambda x: written[id(x)] if id(x) in written else _shadow(x), result)


@functools.cache
def _is_composed(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same value, with what the function makes of the tensors in it."""
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(_mapped(function, x) for x in value) if type(value) in (list, tuple) else value


def _is_same(target: Tensor, source: Tensor) -> bool:
    def place(x: Tensor) -> tuple[Any, ...]:
        return x.data_ptr(), x.shape, x.stride(), x.dtype, isinstance(x, Shadow)

    return place(target) == place(source)


def _moved(from_cpu: bool) -> None:
    (COUNTS.copies if from_cpu else COUNTS.waits)[f"{_line()} copy"] += 1


def _check_devices(name: str, args: Any, tensors: list[Tensor]) -> None:
    there = [x for x in tensors if isinstance(x, Shadow)]
    strangers = [x for x in tensors if not isinstance(x, Shadow) and x.ndim > 0]
    if not there or (not strangers and not (name.endswith("_") and not isinstance(args[0], Shadow))):
        return
    if name in ("index", "index_put_", "_index_put_impl_") and isinstance(args[0], Shadow):  # indices are copied
        _moved(from_cpu=True)
        return
    shapes = [(tuple(x.shape), x.device.type) for x in tensors]
    raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {shapes} at {_line()}")


def _refuse_float64(result: Tensor) -> None:
    if result.dtype == torch.float64:
        raise TypeError(f"float64 on a device that has none, at {_line()}")


def _shadow(values: Tensor) -> Tensor:
    if isinstance(values, Shadow):
        return values
    if values.is_conj():  # the shadow has no such bits
        values = values.conj().clone().conj().resolve_conj()
    if values.is_neg():
        values = values.resolve_neg()
    with torch.inference_mode(values.is_inference()):
        return Shadow(values)


@contextlib.contextmanager
def shadow_device(kind: str = "cuda") -> Iterator[Counts]:
    """A GPU is there: "cuda"; or "meta", an ordinary device that can compute gradients too, since for those torch asks
    the real CUDA."""
    changes: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "shadow",
        "is_bf16_supported": lambda *_, **__: True,
        "current_device": lambda: 0,
        "synchronize": lambda *_: None,
        "is_current_stream_capturing": lambda: False,
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "mem_get_info": lambda *_: (64 << 30, 64 << 30),
        "device_of": lambda *_: contextlib.nullcontext(),
        "_lazy_init": lambda: None,
    }
    torch._C._ensureCUDADeviceGuardSet()
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    autocast = torch.autocast
    try:
        with contextlib.ExitStack() as stack:
            for name, function in changes.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, function))
            stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
            if kind == "meta":
                none = contextlib.nullcontext()
                replaced = lambda kind, *rest, **more: none if kind == "meta" else autocast(kind, *rest, **more)  # noqa: E731
                stack.enter_context(mock.patch.object(torch, "autocast", replaced))
            stack.enter_context(
                mock.patch.object(Shadow, "device_name", torch.device("cuda:0" if kind == "cuda" else kind))
            )
            stack.enter_context(_Mode())
            stack.enter_context(_Generators())
            COUNTS.clear()
            yield COUNTS
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def host(x: Tensor) -> Tensor:
    """The values, as of a tensor on the CPU."""
    return x.values if isinstance(x, Shadow) else x
