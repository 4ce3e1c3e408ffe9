# One image for broker and operator: `automq broker --config FILE`, `python -m automq_operator`.
# BASE is any Debian-like image with Python 3.11 or newer; the build needs nothing else but, for speed, a C compiler.
# LOCK=requirements-broker.lock makes an image without what only the operator needs.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# For automq.core. Without a compiler or Python's headers, and without any to be had, the image is pure Python:
# `automq --version` says so. A Python that is not Debian's brings its headers along.
RUN packages=""; command -v cc >/dev/null || packages="gcc libc6-dev"; \
    test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || packages="$packages python3-dev"; \
    test -z "$packages" \
 || timeout 180 sh -c "apt-get update && apt-get install --yes --no-install-recommends $packages" \
 || echo "there is no compiler: automq.core will be pure Python"
WORKDIR /src
RUN python3 -m venv /opt/automq
ARG LOCK=requirements.lock
COPY ${LOCK} ./requirements.lock
# --no-compile: bytecode of everything would be a third of the image. What a start imports is compiled below.
RUN /opt/automq/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check -r requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY broker ./broker
COPY operator ./operator
RUN /opt/automq/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --no-deps . \
 && /opt/automq/bin/pip uninstall --yes --quiet pip \
 && find /opt/automq -name '__pycache__' -prune -exec rm -rf {} + \
 && find /opt/automq -path '*/site-packages/*' -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
# Else each start compiles some hundred modules anew: most of a second of CPU.
RUN for module in automq.cli.app automq.server.runner automq.s3stream.store.s3 automq_operator.__main__; do \
      /opt/automq/bin/python -c "import $module" || echo "$module is not for this image"; done

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="automq" \
      org.opencontainers.image.description="A stateless Kafka over object storage: broker and operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/automq /opt/automq
ENV PATH=/opt/automq/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Any user works: nothing is written but $TMPDIR and the termination message.
USER 10001:10001
EXPOSE 9092 9404
ENTRYPOINT ["automq"]
CMD ["--help"]
