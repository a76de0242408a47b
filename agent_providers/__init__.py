"""agent_providers - one module per wire protocol, one table of vendors, one table of models."""
