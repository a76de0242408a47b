"""agent_patterns - one generator per module: how an agent thinks."""
