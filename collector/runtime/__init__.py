"""Opens what the settings name (`opening`), runs stages on it (`running`, `backfilling`), and has
the entry point for schedulers (`scheduled`). Imports nothing: a command loads only what it uses.
"""
