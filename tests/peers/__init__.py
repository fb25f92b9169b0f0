"""Peers that misbehave on purpose: HTTP on raw sockets before API, images and S3, and Postgres."""
