"""signal of a frozen program: the interpreter's own functions and numbers; its names (with `enum`, 3 ms to load) when needed."""

from _signal import *  # noqa: F403 - as `signal` itself does


def __getattr__(name):
    if name.startswith("__") and name != "__all__":  # `from signal import …` asks for __path__
        raise AttributeError(name)
    import full_signal

    value = globals()[name] = getattr(full_signal, name)
    return value
