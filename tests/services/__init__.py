"""Tests of the services: a real database, and a hand-written stand-in for ``wg``."""
