"""The command line. Owns stdout: when it serves stdio, stdout is the protocol's alone."""

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from outpaint_mcp import __version__
from outpaint_mcp.bootstrap import build_service, configured
from outpaint_mcp.cli.commands import (
    DONE,
    FAILED,
    REFUSED,
    StdoutError,
    check_working_folder,
    flush,
    list_tasks,
    outpaint,
    print_line,
    show_task,
    tell_line,
)
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError
from outpaint_mcp.domain.request import MAX_ZOOM, MIN_ZOOM, AspectRatio

INTERRUPTED, READER_GONE = 130, 141
"""Exit codes as shells have them for whom SIGINT or SIGPIPE ended."""
LOOPBACK = "127.0.0.1"
SERVE_PORT = 8000
MAX_LISTED = 10_000
"""Tasks that are listed at once at the most."""


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
        tell_line(f"outpaint-mcp: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return _parser().parse_args(arguments)
    except SystemExit:
        # A help text that nobody reads any more is no mistake of anybody's.
        if sys.stdout is not None:
            try:
                flush(sys.stdout)
            except OSError as error:
                raise StdoutError(error) from None
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="outpaint-mcp",
        description="Extend pictures beyond their borders. Without a command: serve MCP over stdio.",
    )
    parser.add_argument("--version", action="version", version=f"outpaint-mcp {__version__}")
    parser.set_defaults(run=_serve, transport="stdio")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve MCP")
    serve.add_argument("--transport", choices=["stdio", "http", "sse"], default="stdio")
    serve.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="default: 8000; 0 is any free one")
    serve.add_argument("--with-sse", action="store_true", help="with http: serve the older SSE at /sse too")
    serve.add_argument("--insecure", action="store_true", help="let anybody on the network use it without a token")
    serve.add_argument("--public-url", metavar="URL", help="where others reach it; vendors then call back there")
    serve.add_argument(
        "--metrics-port", type=_port, metavar="PORT", help="serve Prometheus metrics on a port of its own"
    )
    serve.add_argument("--metrics-host", help="the address for it (default: 127.0.0.1)")
    serve.set_defaults(run=_serve)

    token = commands.add_parser("token", help="make and remove the bearer tokens that clients over HTTP need")
    actions = token.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, words in (("add", "make one and print it"), ("remove", "remove a name's"), ("list", "show the names")):
        one = actions.add_parser(action, help=words)
        if action != "list":
            one.add_argument("name", help="whose it is; tasks and budgets belong to the name")
        if action == "add":
            one.add_argument("--another", action="store_true", help="though the name has one already")
        one.add_argument("--file", type=Path, help="the file of tokens (default: OUTPAINT_TOKENS_FILE)")
        one.set_defaults(run=_token, action=action)

    order = commands.add_parser("outpaint", help="extend a picture and write the result")
    order.add_argument("image", nargs="?", help="a file, an http(s) URL or a data: URI")
    order.add_argument("--task", metavar="ID", help="extend a finished task in place of a picture")
    order.add_argument("--provider", default="auto", help="who does it (default: auto)")
    order.add_argument("--zoom", type=_zoom, default=2.0, help="how many times wider and taller, 1 to 2 (default)")
    order.add_argument("--aspect-ratio", type=_ratio, metavar="W:H", help="of the new picture")
    order.add_argument("--prompt", help="what to paint in the new area")
    order.add_argument("--image-index", type=int, choices=range(1, 5), help="which image of a four-image task")
    order.add_argument("--speed", choices=["relax", "fast", "turbo"])
    order.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a provider option")
    order.add_argument("--repeat", action="store_true", help="order again though the same was ordered before")
    _add_output(order)
    order.set_defaults(run=outpaint)

    task = commands.add_parser("task", help="show a task")
    task.add_argument("id")
    task.add_argument("--provider", help="whose id it is, if it is a provider's own")
    task.add_argument("--wait", action="store_true", help="wait until it is finished")
    _add_output(task)
    task.set_defaults(run=show_task)

    tasks = commands.add_parser("tasks", help="list the newest tasks")
    tasks.add_argument("--json", action="store_true")
    tasks.add_argument("--limit", type=_limit, default=20, help=f"how many, 1 to {MAX_LISTED} (default: 20)")
    tasks.set_defaults(run=list_tasks)

    providers = commands.add_parser("providers", help="show who can do what")
    providers.add_argument("--json", action="store_true")
    providers.set_defaults(run=_providers)

    sandbox = commands.add_parser("sandbox", help="serve the five vendors' protocols on this machine, to try them")
    sandbox.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=_port, default=8765, help="default: 8765; 0 is any free one")
    sandbox.add_argument(
        "--seconds", type=_seconds, default=0.6, help="how long a task stays in each state (default: 0.6)"
    )
    sandbox.set_defaults(run=_sandbox)

    doctor = commands.add_parser("doctor", help="examine this installation; asks no vendor")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)

    install = commands.add_parser("install", help="write the server into a host's configuration file")
    install.add_argument("client", metavar="CLIENT", help="such as claude-desktop, claude-code, cursor, vscode")
    install.add_argument("--print", action="store_true", dest="only_print", help="show it and write nothing")
    install.add_argument("--uninstall", action="store_true", help="take the entry out again")
    install.set_defaults(run=_install)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=_output, metavar="FILE", help="where to write the image: a file, or a folder"
    )
    parser.add_argument("--json", action="store_true", help="print the task as JSON")


def _zoom(text: str) -> float:
    value = _number(text)
    if not MIN_ZOOM <= value <= MAX_ZOOM:
        raise argparse.ArgumentTypeError(f"must lie between {MIN_ZOOM:g} and {MAX_ZOOM:g}")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _port(text: str) -> int:
    return _whole(text, 0, 65535)


def _limit(text: str) -> int:
    return _whole(text, 1, MAX_LISTED)


def _whole(text: str, lowest: int, highest: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not lowest <= value <= highest:
        raise argparse.ArgumentTypeError(f"must lie between {lowest} and {highest}")
    return value


def _output(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the file's name is empty")
    if text.endswith(("/", os.sep)) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return Path(text)


def _ratio(text: str) -> str:
    try:
        return str(AspectRatio.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# The commands


def _serve(options: argparse.Namespace) -> int:
    from outpaint_mcp.cli.serve import serve_http, serve_stdio

    if options.transport == "stdio":
        http_only = ("host", "port", "with_sse", "insecure", "public_url", "metrics_port", "metrics_host")
        # Without a command there are none of them.
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
    from outpaint_mcp.server.text import providers_text

    service, _, _ = build_service(settings)
    found = service.list_providers()
    if options.json:
        print_line(json.dumps({"providers": [one.model_dump(mode="json") for one in found]}, indent=2))
    else:
        print_line(providers_text(found))
    return DONE


def _token(options: argparse.Namespace) -> int:
    from outpaint_mcp.web.token_file import add_token, remove_tokens, token_names

    path: Path | None = options.file or configured().tokens_file
    if path is None:
        raise ConfigurationError("Which file holds the tokens is not said.", "Set OUTPAINT_TOKENS_FILE or give --file.")
    match options.action:
        case "add":
            # Alone on stdout, so that it can be piped to where it is needed.
            print_line(add_token(path, options.name, another=options.another))
            sys.stderr.write(f"{options.name} can use this token from now on. It is kept nowhere: note it now.\n")
        case "remove":
            count = remove_tokens(path, options.name)
            if not count:
                raise ConfigurationError(f"{options.name} has no token.", "See: outpaint-mcp token list")
            sys.stderr.write(f"Removed {count}. Who used it is refused from now on; the tasks stay.\n")
        case _:
            for name in token_names(path):
                print_line(name)
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    import functools

    import anyio

    from outpaint_mcp.cli.doctor import Subject, as_json, as_text, attempt, examine, exit_code
    from outpaint_mcp.providers import provider_classes
    from outpaint_mcp.settings import (
        environment_names,
        environment_without_keys,
        read_settings,
        read_vendor_settings,
    )

    classes = provider_classes()
    subject = Subject(
        settings=attempt(read_settings),
        vendors={name: attempt(functools.partial(read_vendor_settings, name)) for name in classes},
        classes=classes,
        variables=environment_names(),
        environment=environment_without_keys(),
    )
    findings = anyio.run(examine, subject)
    print_line(as_json(findings) if options.json else as_text(findings))
    return exit_code(findings)


def _install(options: argparse.Namespace) -> int:
    from outpaint_mcp.cli.install import Machine, carry_out, command_of, plan_change, told
    from outpaint_mcp.providers import DEFAULT_ORDER
    from outpaint_mcp.settings import environment_folders

    command = command_of(sys.argv[0], sys.executable)
    machine = Machine(Path.home(), sys.platform, environment_folders())
    plan = plan_change(options.client, machine, command, uninstall=options.uninstall)
    backup = None if options.only_print else carry_out(plan)
    keys = [f"{name.upper()}_API_KEY" for name in DEFAULT_ORDER if name != "local"]
    print_line(told(plan, command, keys, printed=options.only_print, backup=backup))
    return DONE


def _sandbox(options: argparse.Namespace) -> int:
    configured()
    import anyio

    from outpaint_mcp.sandbox import SEEDS, SandboxSettings, environment, serve_sandbox

    def ready(base_url: str) -> None:
        # It serves whether or not anybody reads where.
        with contextlib.suppress(StdoutError):
            tell(base_url)

    def tell(base_url: str) -> None:
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
