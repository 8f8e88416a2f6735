"""The words of the scan table's `verdict` column."""

QUALIFIES, BREAKS, UNDER_FLOOR = "qualifies", "breaks the model", "under the noise floor"
NO_EVIDENCE, RAISES, NOT_SPECIFIC, INCOMPLETE = "no evidence", "raises", "not specific", "incomplete"
