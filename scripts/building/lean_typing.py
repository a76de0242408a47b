"""typing of a frozen program: what a module with unevaluated annotations takes from it; all else (3 ms to load) when needed."""

import _thread

TYPE_CHECKING = False


class _AnyMeta(type):
    def __instancecheck__(cls, obj):
        if cls is Any:
            raise TypeError("typing.Any cannot be used with isinstance()")
        return super().__instancecheck__(obj)

    def __repr__(cls):
        return "typing.Any" if cls is Any else super().__repr__()


class Any(metaclass=_AnyMeta):
    def __new__(cls, *args, **kwargs):
        if cls is Any:
            raise TypeError("Any cannot be instantiated")
        return super().__new__(cls, *args, **kwargs)


def overload(func):
    """Mark one of several signatures; nobody asks a program for them."""
    return func


_lock = _thread.RLock()
_whole = []


def __getattr__(name):
    """Become the whole module, in place: others replace parts of it."""
    if name.startswith("__") and name != "__all__":  # `from typing import …` asks for __path__
        raise AttributeError(name)
    with _lock:
        if not _whole:
            _whole.append(name)
            exec(__loader__.get_code("full_typing"), globals())  # noqa: S102 - Python's own
    if name not in globals():
        raise AttributeError(f"module 'typing' has no attribute {name!r}")
    return globals()[name]
