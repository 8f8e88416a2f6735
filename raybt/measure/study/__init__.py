"""The tables of a study's stages: what was measured at onsets, on controls, and over whole completions."""
