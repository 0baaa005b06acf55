"""What somebody says to a run in progress: from the API to the inbox, and from there to the journal.

`reflux.core.word` decides what a word does. Here words are read from requests (`documents`), kept until the
run's owner hears them (`stored`), and their senders are told what came of them (`teller`). Signals that name
no run find those that wait for them (`signals`); a person without rights at the API answers an approval by a
token (`tokens`). Uses the stores of the orchestrator; called by its servicer and its intake.
"""
