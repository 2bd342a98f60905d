# syntax=docker/dockerfile:1
# The executable alone, as a user without rights. NATS is a service of its own (compose.yaml): `yalo all` would need a
# nats-server in the same container.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches outlive a build: a change of one file compiles one crate.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin yalo && cp target/release/yalo /yalo

FROM debian:bookworm-slim
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/yalo yalo \
    && install --directory --owner yalo --group yalo --mode 0700 /var/lib/yalo
COPY --from=build /yalo /usr/local/bin/yalo
# A container's own loopback is of no use to its neighbours.
ENV YALO_DATA__DIR=/var/lib/yalo \
    YALO_FRONTEND__LISTEN=0.0.0.0:8080 \
    YALO_ADMIN__LISTEN=0.0.0.0:8081 \
    YALO_OPS__LISTEN=0.0.0.0:8090 \
    YALO_LOG__FORMAT=json
USER yalo
VOLUME /var/lib/yalo
EXPOSE 8080 8081 8090
STOPSIGNAL SIGTERM
ENTRYPOINT ["yalo"]
CMD ["--help"]
