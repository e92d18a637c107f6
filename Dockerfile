# Builds one static-enough binary and ships nothing else: no shell, no package manager, no root.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && mkdir -p /out/data && cp target/release/weir /out/weir

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/weir /weir
COPY --from=build --chown=nonroot:nonroot /out/data /data
# What a large picture took goes back to the system at once: left alone, glibc keeps up to twice the largest on each thread.
ENV MALLOC_MMAP_THRESHOLD_=1048576
USER nonroot
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
# The binary asks itself: the image has no curl.
HEALTHCHECK --interval=10s --timeout=3s CMD ["/weir", "health"]
ENTRYPOINT ["/weir"]
CMD ["serve", "-c", "/data/weir.yaml"]
