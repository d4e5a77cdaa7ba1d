"""Tests with a real tunnel and a real browser."""
