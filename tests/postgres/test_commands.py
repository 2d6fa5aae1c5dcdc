"""The command line on Postgres, with a schema and a prefix."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from servers.postgres import Server

from workflow_world.cli.app import app


def test_commands_find_the_tables_where_they_are(server: Server, empty: str) -> None:
    url = server.url(empty)
    here = ("--url", url, "--schema", "flows", "--table-prefix", "x_")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, *here])

    assert call("db", "current").stdout == "none\n"
    refused = call("status")
    assert refused.exit_code == 1
    assert "run 'workflow-world db upgrade'" in refused.stderr
    for command in (("setup",), ("db", "upgrade"), ("db", "check"), ("purge",), ("repair",)):
        done = call(*command)
        assert done.exit_code == 0, done.output
    assert call("db", "current").stdout == "0001\n"
    assert json.loads(call("status", "--json").stdout)["queues"] == {}
    assert json.loads(call("check", "--json").stdout)["clean"] is True
    found = server.execute(
        "SELECT DISTINCT table_schema FROM information_schema.tables"
        " WHERE table_name LIKE 'x!_%' ESCAPE '!'",
        empty,
    )
    assert found == [("flows",)]
    # Elsewhere there is nothing.
    elsewhere = CliRunner().invoke(app, ["db", "check", "--url", url])
    assert elsewhere.exit_code == 1
