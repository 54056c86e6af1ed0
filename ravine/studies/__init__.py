"""Studies: questions that take many runs, such as range tests, searches and ensembles."""
