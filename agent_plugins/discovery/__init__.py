"""discovery - agents find each other: cards, matching, skills, adopting, composing, live rows, and all of it as tools.

Nothing in here starts a program, except `adopt`, which is asked to, and `tools`, which calls what is registered and granted.
"""
