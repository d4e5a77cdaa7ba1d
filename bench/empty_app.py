"""The smallest Flask + Flask-SQLAlchemy program that asks its database: what Postern's start is compared with."""

from __future__ import annotations

import os

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["EMPTY_DATABASE_URL"]
db = SQLAlchemy(app)


@app.get("/")
def index() -> dict[str, int]:
    """Answer from one query."""
    return {"tables": db.session.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()}
