"""The verbs. Each takes session, settings, wg and clock as arguments and owns one transaction."""
