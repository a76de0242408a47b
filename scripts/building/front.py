"""front - the first code of an executable: answers what was known when it was built, and starts the program for the rest.

PyInstaller's bootloader runs the modules of an executable in order, before its own set-up. This is the first of them, and it
never returns: `--version`, `--agent-schema[=VIEW]`, `__schema` and `--help` alone are bytes made at build time (`ANSWERS`, by the
very code that would answer now); anything else gets a small importer and the agent's `main`.

The build fills in `NAME`, `ENTRY`, `ANSWERS` and `ARCHIVE`. Only built-in modules are imported: each other one
costs as much as the answer.

The archive holds every module: magic, length of the index, the index {name: (is package, offset, length)}, then for each module,
compressed where the offset is negative: (code, {name of a dataclass: its plan, or text of a generated method: code}, {(pattern,
flags): arguments of _sre.compile}). What a module compiles from text while it is imported has been compiled at build time; where
something is not known, Python compiles it as ever.
"""

# ruff: noqa: S102, S302, SLF001, ARG002 - an importer: runs code, reads marshalled code, is called with importlib's arguments
# ruff: noqa: SIM105, PTH123, BLE001 - contextlib and pathlib are not there yet; the last handler stands for the interpreter's

import _frozen_importlib_external as external
import _signal
import _thread
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

NAME = ""
ENTRY = ()
ANSWERS = {}
ARCHIVE = ""
MAGIC = b"AGENTS01"


def interruptible():
    """Let Ctrl-C end the process as it would any program, until the program handles it: a broken import shows a traceback."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def answer():
    """Write the baked answer to these arguments and exit, if there is one and nothing stands against it."""
    words = sys.argv[1:]
    data = ANSWERS.get(words[0]) if len(words) == 1 else None
    if data is None:
        return
    environ = posix.environ
    help_asked = words[0] in ("--help", "-h")
    completing = f"_{NAME.upper().replace('-', '_')}_COMPLETE".encode()
    if (help_asked and (posix.isatty(1) or completing in environ)) or not streams_open():
        return
    write(data)
    posix._exit(0)


def streams_open():
    """Whether 0, 1 and 2 are open; if not, the program says so better."""
    try:
        for fd in (0, 1, 2):
            posix.fstat(fd)
    except OSError:
        return False
    return True


def write(data):
    """Write all of it; before the first byte any trouble is left to the program, after it there is only one thing to say."""
    left = memoryview(data)
    while left:
        try:
            left = left[posix.write(1, left) :]
        except BlockingIOError:
            import time

            time.sleep(0.01)
        except BrokenPipeError:
            _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
            posix.kill(posix.getpid(), _signal.SIGPIPE)
        except OSError as error:
            message = f"{NAME}: cannot write to stdout: {error.strerror} (is the disk full?)\n"
            try:
                posix.write(2, message.encode())
            except OSError:
                pass
            posix._exit(1)


# -- the program -------------------------------------------------------------------------------------------------------------------


def restore_environment(home):
    """Take back what the bootloader did to the environment: children must find their own libraries and folders."""
    environ = posix.environ
    for name in [name for name in environ if name.startswith(b"_PYI_")]:
        del environ[name]
        posix.unsetenv(name)
    folder = home.encode("utf-8", "surrogateescape")
    first, colon, rest = environ.get(b"LD_LIBRARY_PATH", b"").partition(b":")
    if first != folder:
        return
    if colon:
        environ[b"LD_LIBRARY_PATH"] = rest
        posix.putenv(b"LD_LIBRARY_PATH", rest)
    else:
        del environ[b"LD_LIBRARY_PATH"]
        posix.unsetenv(b"LD_LIBRARY_PATH")
    if environ.pop(b"LD_LIBRARY_PATH_ORIG", None) is not None:
        posix.unsetenv(b"LD_LIBRARY_PATH_ORIG")


def beyond_streams(path):
    """Return a descriptor of a file that is none of 0, 1 and 2: where a stream is closed, its number is the next to be given."""
    low = []
    while (found := posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)) < 3:
        low.append(found)
    for each in low:
        posix.close(each)
    return found


class Archive:
    """All modules of the suite in one file; finds and loads them (importlib's meta path finder and loader)."""

    def __init__(self, home, name):
        self.home = home
        self.fd = beyond_streams(f"{home}/{name}")
        head = posix.pread(self.fd, 12, 0)
        if head[:8] != MAGIC:
            raise SystemExit(f"{NAME}: {home}/{name} is no archive of this program")
        size = int.from_bytes(head[8:], "little")
        self.index = marshal.loads(posix.pread(self.fd, size, 12))
        self.begin = 12 + size
        self.functions = {}
        self.patterns = {}

    def find_spec(self, fullname, path=None, target=None):
        found = self.index.get(fullname)
        if found is None:
            return None
        kind = LazyLoader if fullname in LAZY else Loader
        where = f"{self.home}/{fullname.replace('.', '/')}"
        file = f"{where}/__init__.py" if found[0] else f"{where}.py"
        spec = ModuleSpec(fullname, kind(self, fullname, file), origin=file, is_package=found[0])
        spec.has_location = True
        spec.cached = file  # else importlib works out where Python would have kept it
        if found[0]:
            spec.submodule_search_locations = [where]
        return spec

    def invalidate_caches(self):
        """Nothing is cached."""

    def read(self, fullname):
        """Return (code, functions, patterns) of a module; a negative offset says that it is compressed."""
        _, offset, size = self.index[fullname]
        data = posix.pread(self.fd, size, self.begin + abs(offset))
        if offset < 0:
            import zlib

            data = zlib.decompress(data)
        return marshal.loads(data)

    def path_hook(self, path):
        if path != self.home and not path.startswith(f"{self.home}/"):
            raise ImportError("not a folder of this program")
        return Folder(self, path)


class Folder:
    """A folder of the program: extension modules are files in it, modules are listed from the archive."""

    def __init__(self, archive, path):
        self.archive = archive
        self.prefix = path[len(archive.home) + 1 :].replace("/", ".")
        details = [
            (external.ExtensionFileLoader, external._imp.extension_suffixes()),
            (external.SourcelessFileLoader, external.BYTECODE_SUFFIXES),
        ]
        self.files = external.FileFinder(path, *details)

    def find_spec(self, fullname, target=None):
        return self.files.find_spec(fullname, target)

    def invalidate_caches(self):
        self.files.invalidate_caches()

    def iter_modules(self, prefix=""):
        start = f"{self.prefix}." if self.prefix else ""
        for name in sorted(self.archive.index):
            rest = name[len(start) :]
            if name.startswith(start) and rest and "." not in rest:
                yield prefix + rest, self.archive.index[name][0]


class Loader:
    """Loads one module (importlib's loader, with what importlib.resources, inspect and pkgutil ask for)."""

    def __init__(self, archive, name, path):
        self.archive, self.name, self.path = archive, name, path

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        code, functions, patterns = self.archive.read(self.name)
        if functions:
            self.archive.functions.update(functions)
        if patterns:
            self.archive.patterns.update(patterns)
        exec(code, module.__dict__)
        adapt = ADAPTED.get(self.name)
        if adapt is not None:
            adapt(module, self.archive)

    def get_code(self, fullname):
        return self.archive.read(fullname)[0]

    def get_source(self, fullname):
        return None

    def is_package(self, fullname):
        return self.archive.index[fullname][0]

    def get_filename(self, fullname):
        return self.path

    def get_data(self, path):
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, fullname):
        from importlib.readers import FileReader

        return FileReader(self)


# Modules that many import and few use; each is loaded when something of it is asked for. None touches itself while it is loaded.
LAZY = frozenset((
    "base64", "certifi", "copy", "difflib", "idna", "inspect", "ipaddress", "linecache", "locale", "random", "selectors", "ssl",
    "textwrap", "tokenize", "traceback",
))  # fmt: skip


class LazyModule(type(sys)):
    """A module that is not there yet."""

    def __getattribute__(self, name):
        if name in ("__spec__", "__class__", "__name__", "__loader__"):
            return object.__getattribute__(self, name)
        spec = object.__getattribute__(self, "__spec__")
        spec.loader.load(self)
        return object.__getattribute__(self, name)


class LazyLoader(Loader):
    """Loads a module at its first use, once, whichever thread comes first."""

    lock = _thread.RLock()
    loading = False

    def exec_module(self, module):
        module.__class__ = LazyModule

    def load(self, module):
        with self.lock:
            if object.__getattribute__(module, "__class__") is LazyModule and not self.loading:
                self.loading = True
                Loader.exec_module(self, module)
                module.__class__ = type(sys)


def adapt_dataclasses(module, archive):
    """Let generated methods come from the archive. The function replaced is CPython's own of this very version."""
    if not hasattr(module, "_create_fn"):
        return
    known = archive.functions

    def compiled(text, *rest):
        code = known.get(text) if isinstance(text, str) else None
        exec(text if code is None else code, *rest)

    module.exec = compiled
    module.inspect = Signatures(known, module.inspect)
    if "planned_dataclasses" in archive.index:
        import planned_dataclasses

        planned_dataclasses.adapt(module, known)


class Signatures:
    """Stands for `inspect` in dataclasses, which asks for the signature of each class without a docstring."""

    def __init__(self, known, inspect):
        self.known, self.inspect = known, inspect

    def signature(self, cls):
        found = self.known.get((cls.__module__, cls.__qualname__))
        return self.inspect.signature(cls) if found is None else found


def adapt_re(module, archive):
    """Let regular expressions come from the archive."""
    parse, known = module.compile, archive.patterns
    make = module._sre.compile

    def compiled(pattern, flags=0):
        try:
            made = known.get((pattern, int(flags)))
        except TypeError:
            made = None
        return parse(pattern, flags) if made is None or type(pattern) is not made[0].__class__ else make(*made)

    module.compile = compiled


def adapt_lean(module, archive):
    """Let what stands for `re` know the archive's regular expressions."""
    if hasattr(module, "KNOWN"):
        module.KNOWN = archive.patterns


ADAPTED = {"dataclasses": adapt_dataclasses, "re": adapt_lean, "re._compiler": adapt_re}


def start():
    """Set up imports and be the agent."""
    import gc

    gc.disable()
    home = sys._MEIPASS
    restore_environment(home)
    sys.frozen = True
    archive = Archive(home, ARCHIVE)
    sys.meta_path.insert(0, archive)
    sys.path_hooks.insert(0, archive.path_hook)
    sys.path_importer_cache.clear()
    sys.path = [path for path in sys.path if not path.endswith("base_library.zip")]
    module = __import__(ENTRY[0], fromlist=[ENTRY[1]])
    gc.freeze()
    # What is imported later is no garbage either: looking through it once more is a tenth of a short run.
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    leave(getattr(module, ENTRY[1]))


def leave(main):
    """Call the program and end the process as the interpreter would: the bootloader would report an exit as its own failure."""
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    for name, last in (("threading", "_shutdown"), ("atexit", "_run_exitfuncs")):
        if name in sys.modules:
            getattr(sys.modules[name], last)()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    posix._exit(status & 0xFF)


interruptible()
answer()
start()
