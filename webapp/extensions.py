"""The Flask extensions, made once and bound to an application in ``create_app``."""

from __future__ import annotations

from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect
from htmx_flask import Htmx

from webapp.models import Base

db = SQLAlchemy(model_class=Base)
csrf = CSRFProtect()
htmx = Htmx()
login_manager = LoginManager()
