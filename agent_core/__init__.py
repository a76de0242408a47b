"""agent_core - what every agent needs. Importing it costs the standard library only."""
