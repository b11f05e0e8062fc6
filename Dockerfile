# The service of docs/serving.md: docker build --tag belvedere . && docker run --publish 8000:8000 belvedere
# The digest names one build of the base image; `docker buildx imagetools inspect python:3.11-slim` prints the latest.
ARG BASE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
FROM ${BASE} AS built
COPY pyproject.toml requirements-docker.txt README.md LICENSE /source/
COPY src /source/src
RUN python -m venv /opt/belvedere
RUN /opt/belvedere/bin/python -m pip install --no-cache-dir --require-hashes --requirement /source/requirements-docker.txt
RUN /opt/belvedere/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation /source

FROM ${BASE}
COPY --from=built /opt/belvedere /opt/belvedere
ENV PATH=/opt/belvedere/bin:$PATH ORT_DISABLE_TELEMETRY=1
RUN useradd --system --uid 10001 belvedere
USER belvedere
WORKDIR /srv
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["belvedere"]
CMD ["serve", "--host", "0.0.0.0"]
