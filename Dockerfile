# A server of MCP over HTTP. Built from this folder: docker build -t outpaint-mcp .

FROM python:3.13-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir "hatchling>=1.27,<2"
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-build-isolation --wheel-dir /wheels ".[metrics]"

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "outpaint-mcp[metrics]" \
    && groupadd --gid 10001 outpaint \
    && useradd --uid 10001 --gid outpaint --no-create-home --home-dir /data --shell /usr/sbin/nologin outpaint \
    && install --directory --owner outpaint --group outpaint --mode 700 /data
ENV OUTPAINT_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# As a number, so that a cluster that wants no root can see that it is none.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The image has no curl. Whatever OUTPAINT_ALLOWED_HOSTS says, 127.0.0.1 is answered; a proxy that is set is not asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
from http.client import HTTPConnection as To; to = To('127.0.0.1', 8000, timeout=4); to.request('GET', '/healthz'); \
raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["outpaint-mcp"]
# Refuses to start until OUTPAINT_TOKENS_FILE or OUTPAINT_OAUTH_ISSUER says who may call: that is meant.
CMD ["serve", "--transport", "http", "--host", "0.0.0.0", "--port", "8000"]
