"""Graph to graph, one pass a file; the last makes the Plan."""
