"""HTTP only: parse, call one service, choose a template."""
