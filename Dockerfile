# Two images of one package: `airflow` (the default: scheduler, workers and DAGs) and `cli`, without
# Airflow.
#
#   docker build .                 docker build --target cli .
#
# All that is installed is named, with its hash, in requirements/*.txt; only wheels are taken, so
# that no compiler is needed and no package runs code while it is installed.

FROM python:3.12.15-slim-bookworm AS base

FROM base AS builder
WORKDIR /build
COPY requirements/tools.txt requirements/
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/tools.txt \
    && python -m venv --without-pip /opt/venv

FROM builder AS airflow-dependencies
COPY requirements/airflow.txt requirements/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --only-binary :all: \
    --require-hashes -r requirements/airflow.txt

FROM builder AS cli-dependencies
COPY requirements/engine.txt requirements/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --only-binary :all: \
    --require-hashes -r requirements/engine.txt

# Apart from what it depends on: a change of code is a layer of about a megabyte.
FROM builder AS package
COPY pyproject.toml README.md LICENSE ./
COPY sql sql
COPY collector collector
RUN python -m hatchling build -t wheel -d dist \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --prefix /package \
    dist/*.whl

FROM base AS runtime
# The base image comes without bytecode, and the user below could not keep any: every command
# would compile the standard library anew.
RUN python -m compileall -q -x site-packages /usr/local/lib/python3.12 \
    && groupadd --gid 50000 airflow \
    && useradd --uid 50000 --gid airflow --create-home --shell /usr/sbin/nologin airflow
# Logs appear when they are written.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="draenei-collector" \
      org.opencontainers.image.description="Mirror a Wallhaven search into Postgres and S3" \
      org.opencontainers.image.version="1.0.0"

# Neither image has an entry point: a command is given in full, becomes process 1, and so is the
# one that gets the signals. The user is given by number, which Kubernetes can tell from root.

FROM runtime AS cli
COPY --from=cli-dependencies /opt/venv /opt/venv
COPY --from=package /package /opt/venv
# All that is declared is there, and the command starts: the last thing that pip is good for.
RUN pip --python /opt/venv/bin/python check \
    && collector version \
    && pip uninstall --yes --root-user-action ignore pip
WORKDIR /home/airflow
USER 50000:50000
CMD ["collector", "--help"]

FROM runtime AS airflow
# Made here, so that a named volume mounted on one of them belongs to the user too.
RUN install --directory --owner airflow --group airflow /opt/airflow /opt/airflow/dags \
    /opt/airflow/logs /opt/airflow/plugins /opt/airflow/secrets
ENV AIRFLOW_HOME=/opt/airflow
COPY --from=airflow-dependencies /opt/venv /opt/venv
COPY --from=package /package /opt/venv
RUN pip --python /opt/venv/bin/python check \
    && collector version \
    && pip uninstall --yes --root-user-action ignore pip
COPY --chown=airflow:airflow dags /opt/airflow/dags
WORKDIR /opt/airflow
USER 50000:50000
CMD ["airflow", "version"]
