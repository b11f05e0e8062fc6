"""The journal of decisions on labels, and how it is applied."""
