"""text-processor - transform and measure text.

    $ echo 'hello pipes' | text-processor make this uppercase
    HELLO PIPES

Several steps in one sentence work, too, and a tool can be run by name, with no model at all:

    $ text-processor --tool wordcount 'one two three'
    3
"""

from agent_core import Agent
from agent_plugins.tools import text

agent = Agent(
    __doc__,
    "You transform and measure text. Use the tools for every change and every count; never do them in your head. "
    "Work on the material if there is some. Answer with the resulting text or number alone, without comment.",
    tools=[
        text.uppercase, text.lowercase, text.titlecase, text.reverse, text.reverse_lines, text.wordcount, text.linecount,
        text.charcount, text.replace, text.sort_lines, text.unique_lines, text.number_lines, text.trim, text.squeeze,
        text.echo,
    ],
    examples=["echo hello | text-processor make this uppercase", "text-processor --tool reverse 'abc'"],
    tags=["text", "transform", "count"],
    when_to_use="A text has to be transformed, sorted, trimmed or measured exactly.",
)  # fmt: skip
main = agent.main

if __name__ == "__main__":
    main()
