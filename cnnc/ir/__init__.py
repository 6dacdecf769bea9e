"""The intermediate representation: types, ops, graph, verifier, printer and the Plan."""
