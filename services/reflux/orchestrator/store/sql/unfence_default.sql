-- Takes the fence away, if there is one.
SELECT unfence_default()
