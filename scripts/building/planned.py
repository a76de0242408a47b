"""planned - dataclasses of a frozen program, made in one step by a plan from the build (`planned_dataclasses` in its archive).

`dataclasses` looks at each annotation, writes methods as text, sets them one by one, and makes a class with slots a second time: a
quarter of a short start for seventy classes whose result is known beforehand. A plan holds the code of all methods of one class;
the description of its fields, which few ask for, is made when somebody does. What has no plan is made as ever.

A plan is (code, defaults, names, parameters, hidden): `code` that returns {name: method}, the fields whose defaults it takes, the
fields in order, the parameters of the decorator, and what else the class gets ({name: value}).
"""

# ruff: noqa: SLF001 - a part of CPython's own `dataclasses`, of this very version
# ruff: noqa: RUF063 - inspect is not there, and what is asked for is what this very class says

from types import FunctionType, MemberDescriptorType


class Fields:
    """`__dataclass_fields__` of a planned class: made at the first look, in place of this."""

    __slots__ = ("annotations", "cls", "kw_only", "module", "values")

    def __init__(self, module, cls, values, kw_only):
        self.module, self.cls, self.values, self.kw_only = module, cls, values, kw_only
        self.annotations = cls.__dict__.get("__annotations__", {})

    def __set_name__(self, owner, name):
        self.cls = owner

    def __get__(self, instance, owner=None):
        made = {}
        for name, kind in self.annotations.items():
            value = self.values[name]
            found = value if isinstance(value, self.module.Field) else self.module.field(default=value)
            found.name, found.type, found._field_type = name, kind, self.module._FIELD
            if found.kw_only is self.module.MISSING:
                found.kw_only = self.kw_only
            made[name] = found
        self.cls.__dataclass_fields__ = made
        return made


def adapt(module, plans):
    """Let the module `dataclasses` follow plans: {(module, qualified name): plan}. It is CPython's own of this very version."""
    stock = module._process_class

    def process(cls, *parameters):
        plan = plans.get((cls.__module__, cls.__qualname__))
        if type(plan) is not tuple or plan[3] != parameters or plan[2] != tuple(cls.__dict__.get("__annotations__", ())):
            return stock(cls, *parameters)
        return followed(module, cls, plan)

    module._process_class = process


def followed(module, cls, plan):
    """Return the class that the plan makes of an undecorated one."""
    code, defaults, names, parameters, hidden = plan
    own = cls.__dict__
    values = {name: own.get(name, module.MISSING) for name in names}
    for name in names:
        if type(values[name]) is MemberDescriptorType:  # of slots that the class itself declares
            values[name] = module.MISSING
    fixed = (module.MISSING, module._HAS_DEFAULT_FACTORY, object, module.FrozenInstanceError)
    given = [default(module, values[name]) for name in defaults]
    added = FunctionType(code, module.sys.modules[cls.__module__].__dict__)(cls, *fixed, *given)
    added.update(hidden)
    added["__dataclass_params__"] = module._DataclassParams(*parameters[:6])
    added["__dataclass_fields__"] = Fields(module, cls, values, parameters[7])
    made = again(module, cls, names, added) if parameters[8] else completed(module, cls, values, added)
    if type(made) is not type:
        module.abc.update_abstractmethods(made)
    return made


def default(module, value):
    """Return a field's default, or what makes it."""
    if not isinstance(value, module.Field):
        return value
    return value.default_factory if value.default is module.MISSING else value.default


def again(module, cls, names, added):
    """Return the class with slots: one that was made without cannot get them."""
    left = {*names, "__dict__", "__weakref__"}
    content = {name: value for name, value in cls.__dict__.items() if name not in left}
    if added["__dataclass_params__"].frozen:  # for pickling, as ever
        content.setdefault("__getstate__", module._dataclass_getstate)
        content.setdefault("__setstate__", module._dataclass_setstate)
    content.update(added)
    content["__qualname__"] = cls.__qualname__
    return type(cls)(cls.__name__, cls.__bases__, content)


def completed(module, cls, values, added):
    """Return the class itself with what was added; descriptions of fields give way to defaults."""
    for name, value in values.items():
        if isinstance(value, module.Field):
            if value.default is module.MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, value.default)
    for name, value in added.items():
        setattr(cls, name, value)
    return cls
