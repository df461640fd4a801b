# The bot alone, with PyTorch's CPU build; docs/hosting.md says how to run it.
FROM python:3.12-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
RUN python -m venv /opt/bard
ENV PATH=/opt/bard/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/bot.txt requirements/torch.txt requirements/
RUN pip install --require-hashes --only-binary :all: --requirement requirements/bot.txt
# Its dependencies are among the pins above. In a layer of its own: it is the largest download.
# hadolint ignore=DL3059
RUN pip install --no-deps --only-binary :all: --requirement requirements/torch.txt \
    --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml setup.py README.md LICENSE weights.pth ./
COPY data/shakespeare.json data/shakespeare.txt data/
COPY locales locales
COPY migrations migrations
COPY noskgpt noskgpt
COPY bot bot
RUN pip install --no-build-isolation --no-deps . && pip check
# Compile the decoder. The compiled code has the times of its sources, and a layer keeps whole
# seconds only.
RUN find /opt/bard/lib -path '*/noskgpt/inference/*.py' -exec touch --date=@1 {} + \
    && noskgpt --prompt ROMEO: --max-chars 2 --real-words --cast --echo >/dev/null

FROM python:3.12-slim-bookworm
# With the root file system read-only, the bot writes to /data and /tmp alone.
RUN groupadd --gid 10001 bard \
    && useradd --uid 10001 --gid bard --no-log-init --no-create-home --home-dir /data bard \
    && install --directory --owner bard --group bard --mode 0700 /data
COPY --from=build /opt/bard /opt/bard
ENV PATH=/opt/bard/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BARD_DATABASE=/data/bard.sqlite3 \
    BARD_RUNS_DIR=/data/runs \
    XDG_CACHE_HOME=/data/cache \
    MPLCONFIGDIR=/data/cache/matplotlib
USER 10001:10001
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["noskgpt-bard", "check", "--alive"]
ENTRYPOINT ["noskgpt-bard"]
