"""The command line: parses the arguments, runs the command, and turns errors into exit codes.

When it serves stdio, only the protocol is written to stdout.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from outpaint_mcp import __version__
from outpaint_mcp.bootstrap import build_service, configured
from outpaint_mcp.cli.commands import (
    DONE,
    FAILED,
    REFUSED,
    StdoutError,
    add_outpaint_options,
    check_working_folder,
    flush,
    list_tasks,
    outpaint,
    print_line,
    show_task,
    tell_line,
)
from outpaint_mcp.cli.database import add_database_commands
from outpaint_mcp.cli.options import PORT, number, whole_number
from outpaint_mcp.cli.output import output_path
from outpaint_mcp.cli.worker import add_worker_options
from outpaint_mcp.domain.errors import ConfigurationError, InvalidRequestError, OutpaintError

INTERRUPTED, READER_GONE = 130, 141
"""Exit codes as in a shell of a process that SIGINT or SIGPIPE ended."""
LOOPBACK = "127.0.0.1"
SERVE_PORT = 8000
MAX_LISTED = 10_000
"""The most tasks that are listed at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the task failed or cannot be written, 2 refused."""
    try:
        options = _parsed(sys.argv[1:] if arguments is None else arguments)
        command: Callable[[argparse.Namespace], int] = options.run
        return command(options)
    except OutpaintError as error:
        tell_line(str(error))
        return REFUSED
    except StdoutError as error:
        if error.reader_gone:
            return READER_GONE
        tell_line(str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return parser_for(arguments).parse_args(arguments)
    except SystemExit:
        # A closed pipe behind --help is not an error of argparse's: it is reported as for any other output.
        if sys.stdout is not None:
            try:
                flush(sys.stdout)
            except OSError as error:
                raise StdoutError(error) from None
        raise


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviations, and so do the parsers of its commands: ``--image`` is not meant for ``--image-index``."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise InvalidRequestError(f"The command line cannot be read: {message}.", f"See {self.prog} --help.")


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these arguments: what no other command needs is left out."""
    parser = _Parser(
        prog="outpaint-mcp",
        description="Extend images beyond their borders. Without a command: serve MCP over stdio.",
    )
    parser.add_argument("--version", action="version", version=f"outpaint-mcp {__version__}")
    parser.set_defaults(run=_serve, transport="stdio")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve MCP")
    serve.add_argument(
        "--transport", choices=["stdio", "http", "sse"], default="stdio", help="how clients connect (default: stdio)"
    )
    serve.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=PORT, help="default: 8000; 0 is any free one")
    serve.add_argument("--with-sse", action="store_true", help="with http: serve the older SSE at /sse too")
    serve.add_argument("--insecure", action="store_true", help="let anyone on the network use it without a token")
    serve.add_argument("--public-url", metavar="URL", help="the URL that clients and vendors reach it at")
    serve.add_argument("--metrics-port", type=PORT, metavar="PORT", help="serve Prometheus metrics on a separate port")
    serve.add_argument("--metrics-host", help="the address for it (default: 127.0.0.1)")
    serve.set_defaults(run=_serve)

    token = commands.add_parser("token", help="manage the bearer tokens that clients over HTTP need")
    actions = token.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, words in (
        ("add", "create one and print it"),
        ("remove", "remove a name's tokens"),
        ("list", "show the names"),
    ):
        one = actions.add_parser(action, help=words)
        if action != "list":
            one.add_argument("name", help="the client's name; its tasks and limits belong to it")
        if action == "add":
            one.add_argument("--another", action="store_true", help="even if the name has one already")
        one.add_argument("--file", type=Path, help="the file of tokens (default: OUTPAINT_TOKENS_FILE)")
        one.set_defaults(run=_token, action=action)

    add_database_commands(commands.add_parser("db", help="look after the PostgreSQL database of OUTPAINT_DATABASE_URL"))

    add_worker_options(
        commands.add_parser("worker", help="poll, draw and copy for the servers on OUTPAINT_DATABASE_URL")
    )

    order = commands.add_parser("outpaint", help="extend an image and write the result")
    if "outpaint" in arguments:
        # The argument model takes a while to import, and no other command needs it here.
        add_outpaint_options(order)
    _add_output(order)
    order.set_defaults(run=outpaint)

    task = commands.add_parser("task", help="show a task")
    task.add_argument("id", help="its id, op-... or the provider's own")
    task.add_argument("--provider", help="the provider, if the id is its own")
    task.add_argument("--wait", action="store_true", help="wait until it is finished")
    _add_output(task)
    task.set_defaults(run=show_task)

    tasks = commands.add_parser("tasks", help="list the newest tasks")
    tasks.add_argument("--json", action="store_true", help="print the tasks as JSON")
    tasks.add_argument(
        "--limit", type=whole_number(1, MAX_LISTED), default=20, help=f"how many, 1 to {MAX_LISTED} (default: 20)"
    )
    tasks.set_defaults(run=list_tasks)

    providers = commands.add_parser("providers", help="show what each provider can do")
    providers.add_argument("--json", action="store_true", help="print them as JSON")
    providers.set_defaults(run=_providers)

    sandbox = commands.add_parser("sandbox", help="serve the vendors' protocols on this machine, to try them out")
    sandbox.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=PORT, default=8765, help="default: 8765; 0 is any free one")
    sandbox.add_argument(
        "--seconds", type=number(0), default=0.6, help="how long a task stays in each state (default: 0.6)"
    )
    sandbox.set_defaults(run=_sandbox)

    doctor = commands.add_parser("doctor", help="check this installation; contacts no vendor without --online")
    doctor.add_argument("--json", action="store_true", help="print what was found as JSON")
    doctor.add_argument("--online", action="store_true", help="ask each vendor whether its key is valid; costs nothing")
    doctor.set_defaults(run=_doctor)

    install = commands.add_parser("install", help="add the server to a client's configuration file")
    install.add_argument("client", metavar="CLIENT", help="such as claude-desktop, claude-code, cursor, vscode")
    install.add_argument("--print", action="store_true", dest="only_print", help="show it and write nothing")
    install.add_argument("--uninstall", action="store_true", help="remove the entry again")
    install.add_argument("--no-keys", action="store_true", help="ask for no keys; on a terminal it does")
    install.add_argument("--keyring", action="store_true", help="keys go into the system's keyring, not into the file")
    install.set_defaults(run=_install)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=output_path, metavar="FILE", help="where to write the image: a file, or a folder"
    )
    parser.add_argument("--json", action="store_true", help="print the task as JSON")


# The commands


def _serve(options: argparse.Namespace) -> int:
    from outpaint_mcp.cli.serve import serve_http, serve_stdio

    if options.transport == "stdio":
        http_only = ("host", "port", "with_sse", "insecure", "public_url", "metrics_port", "metrics_host")
        # Without a command the namespace holds none of them.
        values = ((name, getattr(options, name, None)) for name in http_only)
        given = [name for name, value in values if value is not None and value is not False]
        if given:
            flags = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigurationError(f"Over stdio there is no {flags}.", "Give --transport http or sse too.")
        serve_stdio()
        return DONE
    metrics_host = LOOPBACK if options.metrics_host is None else options.metrics_host
    serve_http(
        transport=options.transport,
        host=LOOPBACK if options.host is None else options.host,
        port=SERVE_PORT if options.port is None else options.port,
        sse=options.with_sse,
        insecure=options.insecure,
        public_url=options.public_url,
        metrics_address=None if options.metrics_port is None else (metrics_host, options.metrics_port),
    )
    return DONE


def _providers(options: argparse.Namespace) -> int:
    check_working_folder()
    settings = configured()
    import anyio

    from outpaint_mcp.domain.provider_info import ProviderInfo
    from outpaint_mcp.providers.registry import key_variables
    from outpaint_mcp.server.text import providers_text
    from outpaint_mcp.storage.system_keyring import stored_keys

    keys = stored_keys(key_variables().values()) if settings.keyring else None
    service, _, client = build_service(settings, keys=keys)

    async def listed() -> list[ProviderInfo]:
        async with client:
            return await service.list_providers()

    found = anyio.run(listed)
    if options.json:
        print_line(json.dumps({"providers": [one.model_dump(mode="json") for one in found]}, indent=2))
    else:
        print_line(providers_text(found))
    return DONE


def _token(options: argparse.Namespace) -> int:
    from outpaint_mcp.web.token_file import add_token, remove_tokens, token_names

    path: Path | None = options.file or configured().tokens_file
    if path is None:
        raise ConfigurationError("The file of tokens is not known.", "Set OUTPAINT_TOKENS_FILE or give --file.")
    match options.action:
        case "add":
            # Only the token goes to stdout, so that it can be piped.
            print_line(add_token(path, options.name, another=options.another))
            sys.stderr.write(f"{options.name} can use this token from now on. It is not stored: copy it now.\n")
        case "remove":
            count = remove_tokens(path, options.name)
            if not count:
                raise ConfigurationError(f"{options.name} has no token.", "outpaint-mcp token list shows the names.")
            sys.stderr.write(f"Removed {count}. Requests with it are rejected from now on; the tasks stay.\n")
        case _:
            for name in token_names(path):
                print_line(name)
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    import functools

    import anyio

    from outpaint_mcp.cli.doctor import Installation, attempt, examine
    from outpaint_mcp.cli.findings import as_json, as_text, exit_code
    from outpaint_mcp.providers import provider_classes
    from outpaint_mcp.providers.registry import key_variables
    from outpaint_mcp.settings import (
        child_environment,
        environment_names,
        plain_http_to_bucket,
        read_settings,
        read_vendor_settings,
    )
    from outpaint_mcp.storage.system_keyring import stored_keys

    classes = provider_classes()
    settings = attempt(read_settings)
    stored: dict[str, str] | ConfigurationError = {}
    if not isinstance(settings, ConfigurationError) and settings.keyring:
        stored = attempt(lambda: stored_keys(key_variables().values()))
        # What stands in the way of the server is a setting that cannot be carried out.
        settings = stored if isinstance(stored, ConfigurationError) else settings
    keys = {} if isinstance(stored, ConfigurationError) else stored
    installation = Installation(
        settings=settings,
        vendors={
            name: attempt(functools.partial(read_vendor_settings, name, getattr(one, "key_env", None), keys))
            for name, one in classes.items()
        },
        classes=classes,
        variables=environment_names(),
        environment=child_environment(),
        online=options.online,
        plain_http=plain_http_to_bucket(),
    )
    findings = anyio.run(examine, installation)
    show = as_json if options.json else as_text
    print_line(show(findings, asked=options.online))
    return exit_code(findings)


def _install(options: argparse.Namespace) -> int:
    from outpaint_mcp.cli.clients import Machine
    from outpaint_mcp.cli.install import carry_out, command_of, plan_change, report
    from outpaint_mcp.cli.key_prompt import ask_for_keys, is_terminal
    from outpaint_mcp.providers.registry import address_variables, key_variables
    from outpaint_mcp.settings import environment_folders
    from outpaint_mcp.storage.system_keyring import delete_keys, store_keys, stored_keys

    command = command_of(sys.argv[0], sys.executable)
    machine = Machine(Path.home(), sys.platform, environment_folders())
    addresses = address_variables()
    variables = {name: variable for name, variable in key_variables().items() if name not in addresses}
    plan = plan_change(options.client, machine, command, uninstall=options.uninstall)
    if options.uninstall or options.only_print:
        backup = None if options.only_print else carry_out(plan)
        print_line(report(plan, command, list(variables.values()), printed=options.only_print, backup=backup))
        if options.uninstall and options.keyring and not options.only_print:
            deleted = delete_keys(variables.values())
            print_line(f"Deleted from the system's keyring: {', '.join(deleted) or 'no key was there'}.")
        elif options.uninstall and "OUTPAINT_KEYRING" in plan.variables:
            print_line("Keys in the system's keyring stay there for other clients; --uninstall --keyring deletes them.")
        return DONE
    stored = stored_keys(variables.values()) if options.keyring else plan.variables
    given = {} if options.no_keys or not is_terminal() else ask_for_keys(variables, stored, addresses)
    settings = {variable: given.pop(variable) for variable in addresses.values() if variable in given}
    keys = given
    if options.keyring:
        store_keys(keys)
        plan = plan_change(options.client, machine, command, settings={**settings, "OUTPAINT_KEYRING": "true"})
    else:
        plan = plan_change(options.client, machine, command, keys=keys, settings=settings)
    print_line(report(plan, command, list(variables.values()), printed=False, backup=carry_out(plan)))
    if options.keyring:
        print_line(f"In the system's keyring: {', '.join(sorted({*stored, *keys})) or 'no key yet'}.")
        if twice := sorted(plan.variables & {*stored, *keys}):
            print_line(f"{plan.path} holds another {', '.join(twice)}, which is used instead: delete it there.")
    return DONE


def _sandbox(options: argparse.Namespace) -> int:
    configured()
    import anyio

    from outpaint_mcp.sandbox import SEEDS, SandboxSettings, environment, serve_sandbox

    def ready(base_url: str) -> None:
        # It serves even if nobody reads this.
        with contextlib.suppress(StdoutError):
            introduce(base_url)

    def introduce(base_url: str) -> None:
        print_line(f"# The sandbox listens on {base_url}; its index is there. Stop it with Ctrl-C.")
        print_line("# Point the server at it:")
        for name, value in environment(base_url).items():
            print_line(f"export {name}={value}")
        print_line("# Finished tasks to extend, by provider:")
        for seed in SEEDS:
            if not seed.foreign:
                print_line(f"#   {seed.vendor:9} {seed.id:38} {seed.what}")

    try:
        anyio.run(serve_sandbox, options.host, options.port, SandboxSettings(seconds_per_state=options.seconds), ready)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The sandbox cannot be served: {error}.", "Try another --host or --port.") from None
    return DONE
