"""agents - one file per agent: file stem = command name."""
