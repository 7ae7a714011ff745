"""The command line. Owns stdout: when it serves stdio, stdout is the protocol's alone."""

import argparse
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outpaint_mcp import __version__
from outpaint_mcp.building import build_http_app, build_metrics, build_service, configured, running_service
from outpaint_mcp.errors import ConfigurationError, OutpaintError
from outpaint_mcp.task import MAX_ZOOM, MIN_ZOOM, AspectRatio, OutpaintRequest, Status, Task

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from outpaint_mcp.http_app import HttpApp
    from outpaint_mcp.service import OnProgress, Service
    from outpaint_mcp.settings import Settings

DONE, FAILED, REFUSED = 0, 1, 2
WAIT_SECONDS = 20.0
"""How long the command line waits at a time, so that it can show what it waits for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the task failed, 2 refused."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.run
        return command(options)
    except OutpaintError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return REFUSED
    except KeyboardInterrupt:
        return 130


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
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="default: 8000; 0 is any free one")
    serve.add_argument("--with-sse", action="store_true", help="with http: serve the older SSE at /sse too")
    serve.add_argument("--insecure", action="store_true", help="let anybody on the network use it without a token")
    serve.add_argument("--public-url", metavar="URL", help="where others reach it; vendors then call back there")
    serve.add_argument("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics on a port of its own")
    serve.add_argument("--metrics-host", default="127.0.0.1", help="the address for it (default: 127.0.0.1)")
    serve.set_defaults(run=_serve)

    token = commands.add_parser("token", help="make and remove the bearer tokens that callers over HTTP need")
    actions = token.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, words in (("add", "make one and print it"), ("remove", "remove a name's"), ("list", "show the names")):
        one = actions.add_parser(action, help=words)
        if action != "list":
            one.add_argument("name", help="whose it is; tasks and budgets belong to the name")
        if action == "add":
            one.add_argument("--another", action="store_true", help="though the name has one already")
        one.add_argument("--file", type=Path, help="the file of tokens (default: OUTPAINT_TOKENS_FILE)")
        one.set_defaults(run=_token, action=action)

    outpaint = commands.add_parser("outpaint", help="extend a picture and write the result")
    outpaint.add_argument("image", nargs="?", help="a file, an http(s) URL or a data: URI")
    outpaint.add_argument("--task", metavar="ID", help="extend a finished task in place of a picture")
    outpaint.add_argument("--provider", default="auto", help="who does it (default: auto)")
    outpaint.add_argument("--zoom", type=_zoom, default=2.0, help="how many times wider and taller, 1 to 2 (default)")
    outpaint.add_argument("--aspect-ratio", type=_ratio, metavar="W:H", help="of the new picture")
    outpaint.add_argument("--prompt", help="what to paint in the new area")
    outpaint.add_argument("--image-index", type=int, choices=range(1, 5), help="which image of a four-image task")
    outpaint.add_argument("--speed", choices=["relax", "fast", "turbo"])
    outpaint.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a provider option")
    outpaint.add_argument("--repeat", action="store_true", help="order again though the same was ordered before")
    _add_output(outpaint)
    outpaint.set_defaults(run=_outpaint)

    task = commands.add_parser("task", help="show a task")
    task.add_argument("id")
    task.add_argument("--provider", help="whose id it is, if it is a provider's own")
    task.add_argument("--wait", action="store_true", help="wait until it is finished")
    _add_output(task)
    task.set_defaults(run=_task)

    tasks = commands.add_parser("tasks", help="list the newest tasks")
    tasks.add_argument("--json", action="store_true")
    tasks.add_argument("--limit", type=int, default=20)
    tasks.set_defaults(run=_tasks)

    providers = commands.add_parser("providers", help="show who can do what")
    providers.add_argument("--json", action="store_true")
    providers.set_defaults(run=_providers)

    sandbox = commands.add_parser("sandbox", help="serve the five vendors' protocols on this machine, to try them")
    sandbox.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    sandbox.add_argument("--port", type=int, default=8765, help="default: 8765; 0 is any free one")
    sandbox.add_argument(
        "--seconds", type=float, default=0.6, help="how long a task stays in each state (default: 0.6)"
    )
    sandbox.set_defaults(run=_sandbox)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write the image")
    parser.add_argument("--json", action="store_true", help="print the task as JSON")


def _zoom(text: str) -> float:
    value = float(text)
    if not MIN_ZOOM <= value <= MAX_ZOOM:
        raise argparse.ArgumentTypeError("must lie between 1 and 2")
    return value


def _ratio(text: str) -> AspectRatio:
    try:
        return AspectRatio.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# The commands


def _serve(options: argparse.Namespace) -> int:
    return _serve_stdio() if options.transport == "stdio" else _serve_http(options)


def _serve_stdio() -> int:
    import functools

    import anyio

    from outpaint_mcp.late import LateService
    from outpaint_mcp.server import ResultShape, create_server
    from outpaint_mcp.stdio import serve_stdio

    # The settings too are read when the service is opened: nothing before the tools' list depends on them.
    settings = functools.cache(configured)

    def shape() -> ResultShape:
        return ResultShape(settings().resource_links, settings().preview)

    server = create_server(LateService(lambda: running_service(settings())), shape)
    anyio.run(serve_stdio, server)
    return DONE


def _serve_http(options: argparse.Namespace) -> int:
    import anyio

    settings = configured(**({} if options.public_url is None else {"public_url": options.public_url}))
    metrics = None if options.metrics_port is None else build_metrics()
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(_listener(options.host, options.port))
        app = build_http_app(
            settings,
            host=listener.getsockname()[0],
            port=listener.getsockname()[1],
            transport=options.transport,
            sse=options.with_sse,
            insecure=options.insecure,
            observer=metrics,
        )
        served = [(app.asgi, listener, app.paths)]
        if metrics is not None:
            other = sockets.enter_context(_listener(options.metrics_host, options.metrics_port))
            served.append((app.for_operators(metrics), other, ("/metrics",)))
        anyio.run(_run_http, app, served)
    return DONE


def _listener(host: str, port: int) -> "socket.socket":
    from outpaint_mcp.http_server import listening

    try:
        return listening("127.0.0.1" if host == "localhost" else host, port)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"{host} port {port} cannot be listened on: {error}.", "Try another address or port."
        ) from None


async def _run_http(app: "HttpApp", served: "list[tuple[ASGIApp, socket.socket, tuple[str, ...]]]") -> None:
    """Serve until the process is asked to end; then answer who waits, and let orders come to their answers."""
    from outpaint_mcp.http_server import base_url_of, serving

    refusal: OutpaintError | None = None
    async with contextlib.AsyncExitStack() as servers:
        for asgi, listener, _ in served:
            await servers.enter_async_context(serving(asgi, listener))
        try:
            async with app.running():
                for _, listener, paths in served:
                    for path in paths:
                        what = "metrics" if path == "/metrics" else "MCP"
                        sys.stderr.write(f"outpaint-mcp serves {what} on {base_url_of(listener)}{path}\n")
                sys.stderr.flush()
                await _asked_to_end()
        except OutpaintError as error:
            # Carried out of the task groups by hand: they would wrap it.
            refusal = error
    if refusal is not None:
        raise refusal


async def _asked_to_end() -> None:
    """Until SIGINT or SIGTERM comes. The next one ends the process at once."""
    import anyio

    if sys.platform == "win32":
        # There are no such signals there: Ctrl-C interrupts.
        await anyio.sleep_forever()
    import signal

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


def _with_service(settings: "Settings", use: "Callable[[Service], Awaitable[int]]") -> int:
    """Run `use` over a service whose tasks are followed; any file may be read, since its owner sits at the terminal."""
    import anyio

    async def run() -> int:
        refusal: OutpaintError | None = None
        code = REFUSED
        async with running_service(settings, at_terminal=True) as service:
            try:
                code = await use(service)
            except OutpaintError as error:
                # Carried out of the task groups by hand: they would wrap it.
                refusal = error
        if refusal is not None:
            raise refusal
        return code

    return anyio.run(run)


def _outpaint(options: argparse.Namespace) -> int:
    settings = configured()
    request = OutpaintRequest(
        task_id=options.task,
        image=_image_argument(options.image),
        provider=options.provider,
        image_index=options.image_index,
        zoom=options.zoom,
        aspect_ratio=options.aspect_ratio,
        prompt=options.prompt,
        speed=options.speed,
        provider_options=dict(_option(text) for text in options.option),
        repeat=options.repeat,
    )

    async def use(service: "Service") -> int:
        with _progress() as on_progress:
            task = await service.outpaint(request, wait_seconds=WAIT_SECONDS, on_progress=on_progress)
            task = await _until_final(service, task, on_progress)
        target = options.output or _default_output(options.image)
        return await _finish(service, task, target, as_json=options.json)

    return _with_service(settings, use)


def _task(options: argparse.Namespace) -> int:
    settings = configured()

    async def use(service: "Service") -> int:
        task = await service.get_task(options.id, provider=options.provider)
        if options.wait:
            with _progress() as on_progress:
                task = await _until_final(service, task, on_progress)
        return await _finish(service, task, options.output, as_json=options.json)

    return _with_service(settings, use)


def _tasks(options: argparse.Namespace) -> int:
    settings = configured()

    async def use(service: "Service") -> int:
        recent = await service.recent(limit=options.limit)
        if options.json:
            _print(json.dumps([task.model_dump(mode="json") for task in recent], indent=2))
            return DONE
        for task in recent:
            created = task.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
            _print(f"{task.id}  {created}  {task.provider:9} {task.status.value:9} {len(task.images)} images")
        return DONE

    return _with_service(settings, use)


def _providers(options: argparse.Namespace) -> int:
    settings = configured()
    from outpaint_mcp.wording import providers_text

    service, _, _ = build_service(settings)
    found = service.list_providers()
    if options.json:
        _print(json.dumps({"providers": [one.model_dump(mode="json") for one in found]}, indent=2))
    else:
        _print(providers_text(found))
    return DONE


def _token(options: argparse.Namespace) -> int:
    from outpaint_mcp.tokens import add_token, remove_tokens, token_names

    path: Path | None = options.file or configured().tokens_file
    if path is None:
        raise ConfigurationError("Which file holds the tokens is not said.", "Set OUTPAINT_TOKENS_FILE or give --file.")
    match options.action:
        case "add":
            # Alone on stdout, so that it can be piped to where it is needed.
            _print(add_token(path, options.name, another=options.another))
            sys.stderr.write(f"{options.name} can use this token from now on. It is kept nowhere: note it now.\n")
        case "remove":
            count = remove_tokens(path, options.name)
            if not count:
                raise ConfigurationError(f"{options.name} has no token.", "See: outpaint-mcp token list")
            sys.stderr.write(f"Removed {count}. Who used it is refused from now on; the tasks stay.\n")
        case _:
            for name in token_names(path):
                _print(name)
    return DONE


def _sandbox(options: argparse.Namespace) -> int:
    configured()
    import anyio

    from outpaint_mcp.sandbox import SEEDS, SandboxSettings, environment, serve_sandbox

    def ready(base_url: str) -> None:
        _print(f"# The sandbox listens on {base_url}; its index is there. Stop it with Ctrl-C.")
        _print("# Point the server at it:")
        for name, value in environment(base_url).items():
            _print(f"export {name}={value}")
        _print("# Finished tasks to extend, by provider:")
        for seed in SEEDS:
            if not seed.foreign:
                _print(f"#   {seed.vendor:9} {seed.id:38} {seed.what}")

    try:
        anyio.run(serve_sandbox, options.host, options.port, SandboxSettings(seconds_per_state=options.seconds), ready)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The sandbox cannot be served: {error}.", "Try another --host or --port.") from None
    return DONE


async def _until_final(service: "Service", task: Task, on_progress: "OnProgress") -> Task:
    while not task.status.ends_a_wait:
        task = await service.get_task(task.id, wait_seconds=WAIT_SECONDS, on_progress=on_progress)
    return task


async def _finish(service: "Service", task: Task, target: Path | None, *, as_json: bool) -> int:
    from outpaint_mcp.wording import task_text

    written = []
    if task.status is Status.SUCCEEDED and target is not None:
        for image in task.images:
            data, mime_type = await service.image(task.id, image.index)
            path = _numbered(target, image.index, len(task.images), mime_type)
            try:
                path.write_bytes(data)
            except OSError as error:
                advice = f"It is kept: outpaint-mcp task {task.id} -o FILE"
                raise ConfigurationError(f"{path} cannot be written: {error.strerror}.", advice) from None
            written.append(path)
    if as_json:
        _print(task.model_dump_json(indent=2))
    else:
        _print(task_text(task))
        for path in written:
            _print(f"Written: {path}")
    if not task.status.ends_a_wait or task.status is Status.SUCCEEDED:
        return DONE
    return FAILED


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--option {name!r} has no value.", "Write --option NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _image_argument(image: str | None) -> str | None:
    """A path is meant from the working folder, and a shell has expanded what it could."""
    if image is None or image.lower().startswith(("http://", "https://", "data:", "file:")):
        return image
    return str(Path(image).expanduser().absolute())


def _default_output(image: str | None) -> Path:
    """A new name in the working folder, after the picture's."""
    stem = "outpainted"
    if image is not None and not image.lower().startswith("data:"):
        stem = (Path(image.partition("?")[0]).stem or "picture") + "-outpainted"
    path, number = Path(f"{stem}.png"), 1
    while list(path.parent.glob(f"{path.stem}.*")):
        number += 1
        path = Path(f"{stem}-{number}.png")
    return path


def _numbered(target: Path, index: int, count: int, mime_type: str) -> Path:
    """Where an image goes: the suffix says what it is, and several are numbered."""
    known = {"image/png": [".png"], "image/jpeg": [".jpg", ".jpeg"], "image/webp": [".webp"], "image/gif": [".gif"]}
    fitting = known.get(mime_type, [target.suffix])
    suffix = target.suffix if target.suffix.lower() in fitting else fitting[0]
    return target.with_name(f"{target.stem}-{index}{suffix}" if count > 1 else f"{target.stem}{suffix}")


@contextlib.contextmanager
def _progress() -> Any:
    """How far it is: a bar on a terminal where rich is installed, else a line now and then. On stderr."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            pass
        else:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                row = bar.add_task("ordering", total=100)

                async def show(percent: float, message: str) -> None:
                    bar.update(row, completed=percent, description=message)

                yield show
            return
    last = ""

    async def tell(percent: float, message: str) -> None:
        nonlocal last
        line = f"{message} {percent:.0f} %"
        if line != last:
            last = line
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    yield tell
