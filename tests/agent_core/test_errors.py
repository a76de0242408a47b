"""The tree in the docstring, the classes and the table of statuses say the same."""

import re

import agent_core.errors as tree


def classes():
    return {name: kind for name, kind in vars(tree).items() if isinstance(kind, type) and issubclass(kind, tree.AgentError)}


def drawn():
    return {name: int(status) for name, status in re.findall(r"(\w+) +(\d+)  \S", tree.__doc__)}


def test_the_drawing_names_every_class_with_its_status():
    assert drawn() == {name: kind.status for name, kind in classes().items()}


def test_the_drawing_shows_who_descends_from_whom():
    parents = {}
    stack = []
    for line in tree.__doc__.splitlines():
        found = re.match(r"^([ │├└─]*)(\w+) +\d+  ", line)
        if found:
            depth = len(found[1]) // 4
            stack[depth - 1 :] = [found[2]]
            parents[found[2]] = stack[depth - 2] if depth > 1 else None

    assert {name: parent for name, parent in parents.items() if parent} == {
        name: kind.__base__.__name__ for name, kind in classes().items() if kind is not tree.AgentError
    }


def test_every_status_of_a_class_is_in_the_exit_table():
    assert {kind.status for kind in classes().values()} <= set(tree.EXIT_TABLE)


def test_the_line_says_what_went_wrong_and_what_to_try():
    assert tree.ConfigError("no key", hint="set KEY").line() == "no key (set KEY)"
