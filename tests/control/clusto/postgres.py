"""A PostgreSQL for tests: the one of BOOTSTORM_PG_DSN, or a private cluster behind a socket in a temporary folder."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

DSN_VARIABLE = "BOOTSTORM_PG_DSN"
START_S = 60
INITDB = ("--auth=trust", "--username=bootstorm", "--encoding=UTF8")
# No locale that sorts byte by byte: that one would hide a missing collation.  Since PostgreSQL 15.
INITDB_SORTING = ("--locale-provider=icu", "--icu-locale=en-US")
SETTINGS = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off"


def _programs() -> Path:
    """The folder of initdb and pg_ctl, which Debian keeps out of PATH."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        pytest.skip("PostgreSQL: its driver psycopg is not installed (pip install 'bootstorm[postgresql]')")
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not (folders[-1] / "initdb").exists():
        pytest.skip(f"PostgreSQL: no initdb (Debian's package postgresql), and {DSN_VARIABLE} is not set")
    return folders[-1]


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: whom to run it as then, for subprocess.run."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def server() -> Iterator[URL]:
    """URL of a database in which schemas can be made.  Skips the test when there is no PostgreSQL."""
    if dsn := os.environ.get(DSN_VARIABLE):
        url = make_url(dsn)
        yield url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
        return
    programs, run_as = _programs(), _unprivileged()
    # Short, for a socket's path ends at 107 bytes; and outside pytest's folder, which is closed to others than root.
    with tempfile.TemporaryDirectory(prefix="bootstorm-pg-") as name:
        folder = Path(name)
        if run_as:
            os.chown(folder, run_as["user"], run_as["group"])

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), *arguments]
            # Into a file: the server inherits a pipe and would keep it open for good.
            with tempfile.TemporaryFile() as said:
                done = subprocess.run(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=START_S, **run_as
                )
                said.seek(0)
                assert done.returncode == 0, f"{' '.join(command)}: {said.read().decode()}"

        data = str(folder / "data")
        version = subprocess.run([programs / "initdb", "--version"], capture_output=True, text=True, check=True).stdout
        sorting = INITDB_SORTING if int(re.findall(r"\d+", version)[0]) >= 15 else ()
        run("initdb", f"--pgdata={data}", "--no-sync", *INITDB, *sorting)
        run(
            "pg_ctl",
            f"--pgdata={data}",
            "--wait",
            f"--log={folder / 'log'}",
            f"--options={SETTINGS} -k {folder}",
            "start",
        )
        try:
            yield URL.create(
                "postgresql+psycopg", username="bootstorm", database="postgres", query={"host": str(folder)}
            )
        finally:
            run("pg_ctl", f"--pgdata={data}", "--wait", "--mode=immediate", "stop")


@contextmanager
def schema(url: URL) -> Iterator[str]:
    """A DSN whose tables are in a schema of their own, which goes in the end."""
    name = f"bootstorm_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as db:
            db.execute(text(f"CREATE SCHEMA {name}"))
        try:
            private = url.update_query_dict({"options": f"-csearch_path={name}"})
            yield private.render_as_string(hide_password=False)
        finally:
            with engine.connect() as db:
                db.execute(text(f"DROP SCHEMA {name} CASCADE"))
    finally:
        engine.dispose()
