# Serves MCP over HTTP. Build it in this folder: docker build -t outpaint-mcp .

FROM python:3.13-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir "hatchling>=1.27,<2"
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-build-isolation --wheel-dir /wheels ".[metrics,platform]"

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "outpaint-mcp[metrics,platform]" \
    && groupadd --gid 10001 outpaint \
    && useradd --uid 10001 --gid outpaint --no-create-home --home-dir /data --shell /usr/sbin/nologin outpaint \
    && install --directory --owner outpaint --group outpaint --mode 700 /data
ENV OUTPAINT_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Numeric, so that a cluster that enforces non-root containers can check it.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The image has no curl. The Host 127.0.0.1 is always allowed; http.client ignores proxy settings.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
from http.client import HTTPConnection as To; to = To('127.0.0.1', 8000, timeout=4); to.request('GET', '/healthz'); \
raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["outpaint-mcp"]
# By intention, it refuses to start until OUTPAINT_TOKENS_FILE or OUTPAINT_OAUTH_ISSUER configures authentication.
CMD ["serve", "--transport", "http", "--host", "0.0.0.0", "--port", "8000"]
