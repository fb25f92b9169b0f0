"""Opens the world that the settings name (`opening`), runs stages on it (`running`, `backfilling`),
and is the one door for schedulers (`scheduled`). Nothing is imported here: a command pays for what
it needs."""
