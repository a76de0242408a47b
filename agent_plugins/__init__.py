"""agent_plugins - tools, guards and readers that an agent may add; one module each."""
