"""scanning - secrets and dangerous calls in source text, found by rules and never by a model.

`rules` and `code_rules` hold the rules as rows of data, `secret_checks` says whether a shape is a secret, `python_calls` reads
Python by its syntax tree, `engine` runs the rules over one text, `diffs` reads what a diff adds, `sources` reads files and folders
through a `Context`, `baseline` remembers what is known, `sarif` and `report` write what was found, `tools` are the tools for models
and pipes.
"""
