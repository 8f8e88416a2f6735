"""What the report says of each measurement, by the title of its section. A module has `blocks(results)`, which gives
nothing where the config has no such stage."""
