"""The ``postern`` command: reads words, calls one service, prints. Stdout is for scripts, stderr for all else."""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from webapp.errors import AppError, InvalidFields, SettingsInvalid
from webapp.services import schema
from webapp.services.audit import CONSOLE
from webapp.services.database import open_database
from webapp.settings import Settings
from webapp.wiring import Services, build_services

if TYPE_CHECKING:
    from webapp.services.restore import Preview
    from webapp.services.servers import ServerView

PAGE = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused with a sentence, 2 wrong words or settings."""
    os.umask(0o077)
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except SettingsInvalid as error:
        _say("The settings cannot be used:", *(f"  {problem}" for problem in error.problems))
        return 2
    except InvalidFields as error:
        _say(*(f"{problem.field}: {problem}" for problem in error.problems))
        return 1
    except AppError as error:
        _say(str(error))
        if str(error.__cause__ or ""):
            _say(f"  ({type(error.__cause__).__name__}: {str(error.__cause__).splitlines()[0][:200]})")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="postern", description="Hand out AmneziaWG profiles from this server.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    user = commands.add_parser("user", help="people").add_subparsers(metavar="ACTION", required=True)
    create = _command(user, "create", create_user, "make an account (asks for a password)")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--admin", action="store_true", help="may manage the server")
    how = create.add_mutually_exclusive_group()
    how.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    how.add_argument("--no-password", action="store_true", help="nobody can sign in; profiles work all the same")

    profile = commands.add_parser("profile", help="profiles").add_subparsers(metavar="ACTION", required=True)
    create = _command(profile, "create", create_profile, "make a profile and print its file, nothing else")
    create.add_argument("--user", required=True, metavar="NAME", help="whose it is")
    create.add_argument("name", metavar="NAME")
    listing = _command(profile, "list", list_profiles, "list profiles: id, person, name, addresses, state")
    listing.add_argument("--user", metavar="NAME", help="of one person only")

    token = commands.add_parser("token", help="tokens for scripts").add_subparsers(metavar="ACTION", required=True)
    create = _command(token, "create", create_token, "make a token and print it on the last line, once")
    create.add_argument("--user", required=True, metavar="NAME")
    create.add_argument("--name", default="command line", help="what to call it in lists")
    create.add_argument("--scope", default="all", choices=("all", "manage", "read"))

    agent = _command(commands, "agent", run_agent, "keep the interface equal to the database")
    agent.add_argument("--once", action="store_true", help="look once and stop")

    database = commands.add_parser("db", help="the database").add_subparsers(metavar="ACTION", required=True)
    _command(database, "upgrade", upgrade_database, "make or update the tables, the server's row and the first admin")
    copy = _command(database, "copy", copy_database, "copy everything to an empty database and compare the two")
    copy.add_argument("source", metavar="FROM", help="the URL of the database to read")
    copy.add_argument("target", metavar="TO", help="the URL of the empty database to fill")

    backup = _command(commands, "backup", make_backup, "write a verified backup while everything goes on")
    backup.add_argument("--force", action="store_true", help="replace FILE")
    restore = _command(commands, "restore", restore_backup, "show what a backup would change, or put it back")
    restore.add_argument("--yes", action="store_true", help="do it")
    for parser_ in (backup, restore):
        parser_.add_argument("file", metavar="FILE", type=Path)
        parser_.add_argument("--passphrase-stdin", action="store_true", help="read its passphrase from standard input")

    _command(commands, "doctor", run_doctor, "what is there, what is missing, what to type")
    link = _command(commands, "setup-link", print_setup_link, "print a fresh one-time link while there is no user")
    link.add_argument("--quiet", action="store_true", help="print nothing when there is a user already")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    summary: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


@contextmanager
def _services(*, any_schema: bool = False) -> Iterator[Services]:
    """Open the database of the environment's settings; a wrong version of its tables is refused by name."""
    settings = Settings.from_env()
    db = open_database(settings.database_url)
    try:
        if not any_schema:
            found = schema.version(db.engine)
            if found != schema.CURRENT:
                raise SettingsInvalid([schema.mismatch(found)])
        services = build_services(settings, db)
        if not any_schema:
            with db.read() as session:
                services.servers.check_key(session)
        yield services
    finally:
        db.close()


def create_user(arguments: argparse.Namespace) -> None:
    """``postern user create NAME [--admin] [--password-stdin]``"""
    if arguments.no_password:
        password = None
    elif arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise AppError("The two passwords are not the same.")
    with _services() as services:
        person = services.accounts.create_user(arguments.name, password, is_admin=arguments.admin)
    _say(f"{person.username} can sign in now." if password else f"{person.username} was made, without a password.")


def create_profile(arguments: argparse.Namespace) -> None:
    """``postern profile create --user NAME NAME``"""
    with _services() as services:
        person = services.accounts.find(arguments.user)
        with services.db.read() as session:
            # Asked first: a profile whose file cannot be printed would only be in the way.
            services.servers.current(session).check_complete()
        profile = services.profiles.create_profile(person.id, arguments.name, CONSOLE)
        with services.db.read() as session:
            file = services.profiles.profile_file(session, person.id, str(profile.id))
        services.profiles.mark_delivered(person.id, profile.id, file.revision)
    sys.stdout.write(file.text)


def list_profiles(arguments: argparse.Namespace) -> None:
    """``postern profile list [--user NAME]``"""
    with _services() as services, services.db.read() as session:
        user_id = None if arguments.user is None else services.accounts.find(arguments.user).id
        names = services.accounts.usernames(session)
        after: int | None = 0
        while after is not None:
            page = services.profiles.list_profiles(session, user_id, limit=PAGE, after=after)
            for item in page.items:
                addresses = ",".join(filter(None, (item.ipv4_address, item.ipv6_address)))
                print(item.id, names[item.user_id], item.name, addresses, item.state, sep="\t")
            after = page.next_id


def create_token(arguments: argparse.Namespace) -> None:
    """``postern token create --user NAME [--name …] [--scope …]``"""
    with _services() as services:
        person = services.accounts.find(arguments.user)
        token = services.tokens.create_token(person.id, arguments.name, arguments.scope, CONSOLE)
    _say("Keep this token safe: it is shown this once.")
    print(token)


def run_agent(arguments: argparse.Namespace) -> int:
    """``postern agent [--once]``"""
    from webapp.agent import Agent, lead
    from webapp.services.bell import bell_of

    logging.basicConfig(level=logging.INFO, format="agent: %(message)s")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _services() as services:
        held = lead(services.settings.data_dir)
        if held is None:
            _say("Another agent leads on this machine" + ("." if arguments.once else "; this one waits."))
            while held is None and not arguments.once and not stop.wait(1.0):
                held = lead(services.settings.data_dir)
            if held is None:
                return 0
        with held:
            agent = Agent(
                services.db,
                services.vault,
                services.servers,
                services.tools,
                services.clock,
                chores=[services.profiles.forget_deleted, services.accounts.forget_old_tries],
            )
            if arguments.once:
                agent.cycle()
                for problem in agent.problems:
                    _say(f"{problem.title}: {problem.sentence}")
                return 1 if agent.problems else 0
            agent.run(stop, bell_of(services.db))
    return 0


def upgrade_database(arguments: argparse.Namespace) -> None:
    """``postern db upgrade``"""
    from webapp.services import link, migrator

    with _services(any_schema=True) as services:
        settings = services.settings
        if migrator.upgrade(services.db, settings.data_dir):
            _say(f"The database is at version {schema.CURRENT} now.")
        server, is_new = _prepare_server(services)
        if is_new:
            kind = f"AmneziaWG {server.obfuscation.generation}" if server.obfuscation else "plain WireGuard"
            _say(f"The server is made: {server.interface}, mode {server.mode}, {kind}.")
        elif settings.interface_mode == "auto" and server.mode == "off" and link.can_manage(services.tools):
            _say("An interface could be made here now. To switch: INTERFACE_MODE=manage make run")
        if services.accounts.ensure_admin(settings.admin_username, settings.admin_password):
            _say(f"The first admin is {settings.admin_username}.")


def _prepare_server(services: Services) -> tuple[ServerView, bool]:
    """Bring the server's row up to what the environment pins, and say whether it is new."""
    from webapp.services import link

    return services.servers.prepare(
        services.settings.interface_mode,
        services.tools,
        interface_exists=link.exists(services.settings.server.interface),
        can_manage=link.can_manage(services.tools),
    )


def copy_database(arguments: argparse.Namespace) -> None:
    """``postern db copy FROM TO``"""
    from webapp.services import migrator, transfer

    settings = Settings.from_env()
    urls = {word: _database_url(word, url) for word, url in (("FROM", arguments.source), ("TO", arguments.target))}
    with transfer.open_source(urls["FROM"]) as source, closing(open_database(urls["TO"])) as target:
        transfer.check_empty(target)
        migrator.upgrade(target, settings.data_dir)
        sums = transfer.copy_database(source, target)
    for name, total in sums.items():
        print(name, total.rows, f"{total.digest:032x}", sep="\t")
    _say(f"Copied and compared: {sum(total.rows for total in sums.values())} rows in {len(sums)} tables are the same.")
    _say("What was written to FROM meanwhile is not in TO. Set DATABASE_URL to TO now; the encryption key stays.")


def _database_url(word: str, url: str) -> str:
    try:
        return Settings.from_env({"DATABASE_URL": url}).database_url
    except SettingsInvalid as error:
        raise SettingsInvalid(problem.replace("DATABASE_URL", word) for problem in error.problems) from None


def make_backup(arguments: argparse.Namespace) -> None:
    """``postern backup FILE [--passphrase-stdin] [--force]``"""
    from webapp.services.backup import BackupService

    passphrase = _passphrase(arguments)
    with _services() as services:
        settings = services.settings
        backups = BackupService(services.db, services.vault, settings.data_dir, services.clock)
        contents = backups.make(arguments.file, passphrase=passphrase, force=arguments.force)
    rows = contents.rows
    _say(f"Written and verified: {rows['users']} people, {rows['vpn_profiles']} profiles, {rows['api_tokens']} tokens.")
    kept = settings.data_dir / "encryption_key" if settings.encryption_key is None else "ENCRYPTION_KEY in the settings"
    _say(f"The encryption key is NOT in it. It needs key {contents.key_id}: {kept}.")
    _say("Keep a copy of that key, in another place than the backup: without it the backup is of no use.")


def restore_backup(arguments: argparse.Namespace) -> None:
    """``postern restore FILE [--yes] [--passphrase-stdin]``"""
    from webapp.services import migrator
    from webapp.services.restore import RestoreService
    from webapp.services.tombstones import Tombstones

    passphrase = _passphrase(arguments)
    with _services() as services:
        data_dir = services.settings.data_dir
        restorer = RestoreService(services.db, services.vault, Tombstones(data_dir), data_dir, services.clock)
        with restorer.open(arguments.file, passphrase, migrator.upgrade) as backup:
            is_done = arguments.yes
            seen = restorer.restore(backup, arguments.file.name) if is_done else restorer.preview(backup)
        _print_preview(seen)
        if not is_done:
            _say("Nothing was changed. To do it, type the same with --yes.")
            return
        _say("Restored. Everybody signs in again; the agent brings the interface up to date.")
        # What the environment pins is stronger than the backup, as at every start.
        _prepare_server(services)


def _print_preview(seen: Preview) -> None:
    _say(f"The newest entry of the backup: {seen.newest:%Y-%m-%d %H:%M} UTC." if seen.newest else "No entry yet.")
    print("", "now", "in file", "come back", "go", sep="\t")
    for kind in ("people", "profiles", "tokens"):
        change = getattr(seen, kind)
        print(kind, change.now, change.in_file, change.come_back, change.go, sep="\t")
    print("stay revoked", seen.refused, sep="\t")
    if seen.profiles.go:
        _say("Profiles that go are revoked for good: no later restore lets their keys in again.")
    if seen.tokens.come_back:
        _say("Tokens that come back work again: delete those that were revoked since.")


def _passphrase(arguments: argparse.Namespace) -> str | None:
    return sys.stdin.readline().rstrip("\n") if arguments.passphrase_stdin else None


def print_setup_link(arguments: argparse.Namespace) -> int:
    """``postern setup-link``"""
    with _services() as services:
        token = services.accounts.make_setup_link()
        if token is None:
            if not arguments.quiet:
                _say("There is a user already; sign in instead.")
            return 0 if arguments.quiet else 1
        print(f"{services.settings.public_url}/setup?token={token}")
    return 0


def run_doctor(arguments: argparse.Namespace) -> int:
    """``postern doctor``"""
    from webapp.doctor import diagnose

    findings = diagnose(Settings.from_env())
    for finding in findings:
        print(f"{'ok     ' if finding.is_well else 'MISSING'} {finding.subject}: {finding.seen}")
        if finding.command is not None:
            print(f"        type: {finding.command}")
    return 0 if all(finding.is_well for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
