# The service of docs/serving.md: docker build --tag belvedere . && docker run --publish 8000:8000 belvedere
FROM python:3.11-slim AS built
COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY src /source/src
RUN python -m venv /opt/belvedere
RUN /opt/belvedere/bin/python -m pip install --no-cache-dir --constraint /source/constraints.txt /source

FROM python:3.11-slim
COPY --from=built /opt/belvedere /opt/belvedere
ENV PATH=/opt/belvedere/bin:$PATH
RUN useradd --system --uid 10001 belvedere
USER belvedere
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["belvedere"]
CMD ["serve", "--host", "0.0.0.0"]
