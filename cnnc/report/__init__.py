"""Tables and reports for people and for machines."""
