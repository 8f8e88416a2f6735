"""From completions to findings: decoding, onsets, grades, statistics, tables. Tables in, tables out; reads no files."""
