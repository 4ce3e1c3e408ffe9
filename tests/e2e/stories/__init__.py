"""The stories, by what they are about; `tests.e2e.plan` puts them in order."""
