"""The conformance kit: its runner, its ports and its reports."""
