"""Files, folders, archives, documents and hub data sets -> records, each with its file:line."""
