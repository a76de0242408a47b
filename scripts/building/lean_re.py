"""re of a frozen program: what the build knows is compiled at once; all else (with `enum`, 3 ms to load) when it is needed."""

import _sre

NOFLAG, IGNORECASE, LOCALE, MULTILINE, DOTALL, UNICODE, VERBOSE, ASCII = 0, 2, 4, 8, 16, 32, 64, 256
I, L, M, S, U, X, A = IGNORECASE, LOCALE, MULTILINE, DOTALL, UNICODE, VERBOSE, ASCII  # noqa: E741 - their names
KNOWN = {}  # (pattern, flags) -> arguments of _sre.compile: the front fills it in
Pattern = type(_sre.compile("", UNICODE, [1], 0, {}, (None,)))
Match = type(_sre.compile("", UNICODE, [1], 0, {}, (None,)).match(""))
_PARTS = ("_casefix", "_compiler", "_constants", "_parser")


def compile(pattern, flags=0):  # noqa: A001 - its name
    made = KNOWN.get((pattern, int(flags))) if type(pattern) in (str, bytes) else None
    if made is None or type(made[0]) is not type(pattern):
        import full_re

        return full_re.compile(pattern, flags)
    return _sre.compile(*made)


def __getattr__(name):
    if (
        name.startswith("__") and name != "__all__"
    ) or name in _PARTS:  # `from re import …` asks for __path__; the parts are modules
        raise AttributeError(name)
    import full_re

    value = globals()[name] = getattr(full_re, name)
    return value
