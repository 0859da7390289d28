"""Features: tiles through a network, cached for each slide."""
