"""Mirror a Wallhaven search into Postgres and S3, and prove that it was done."""

__version__ = "1.0.0"
