"""Text to a checked graph: grammar, syntax tree, diagnostics, lowering, formatting."""
