"""The trade itself: values in, values out. No Flask, SQLAlchemy, subprocess, os or clock in here."""
