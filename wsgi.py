"""What gunicorn, or a serverless host, imports: the application, from the environment."""

import sys

from webapp import create_app
from webapp.errors import DatabaseUnusable, SettingsInvalid
from webapp.settings import Settings

try:
    app = create_app(Settings.from_env())
except SettingsInvalid as error:
    sys.exit("The settings cannot be used:\n" + "\n".join(f"  {problem}" for problem in error.problems))
except DatabaseUnusable as error:
    sys.exit(f"{error} ({error.__cause__})")
