"""The stages: each one async function that gets all it needs as arguments."""
