"""Tests in a real browser: Debian's chromium in front of a real gunicorn."""
