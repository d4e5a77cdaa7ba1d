"""Tests of the pure domain: plain functions and tables."""
